"""Which jitted function a step is traced into, and whether it can be traced again."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FrameType
from typing import Any

from surefoot.engines.callers import calling_frames, is_trainer
from surefoot.engines.traces import note_trace

_JIT = "jax._src.pjit"
# JAX keeps what it has traced there, too, by the function it is given.
_KEEPING = (_JIT, "jax._src.lax.control_flow", "jax._src.ad_checkpoint")


def note(optimizer: Any) -> None:
    """Let an optimizer know whose the function is that is being traced, if it is kept.

    If Keras's trainer has jitted it, the trainer can make it anew. Any other one may be called
    for as long as the program runs.
    """
    frames = list(calling_frames())
    for modules, outside in _passages(frames):
        of_keras = _module(frames[outside]).startswith("keras.")
        if of_keras and _JIT not in modules:
            continue  # Keras gives a condition new functions each time
        if any(module.startswith(_KEEPING) for module in modules):
            note_trace(optimizer, _trainer(frames[outside:]) if of_keras else None, _ever)
            return


def hand_back(trainer: Any) -> None:
    """Give a trainer the state that its ``fit`` has taken out of the variables."""
    parts = ("trainable", "non_trainable", "optimizer", "metrics")
    for frame in calling_frames():
        caller: Any = frame.f_locals.get("self")
        state = frame.f_locals.get("state")
        if frame.f_code.co_name == "fit" and caller is trainer and state:
            trainer._jax_state = {f"{p}_variables": v for p, v in zip(parts, state, strict=False)}


def _ever() -> bool:
    return True


def _passages(frames: list[FrameType]) -> Iterator[tuple[set[str], int]]:
    """Each passage through JAX: its modules, and where the frame is that called it."""
    modules: set[str] = set()
    for index, frame in enumerate(frames):
        module = _module(frame)
        if module.startswith("jax."):
            modules.add(module)
        elif modules and module != "contextlib":
            yield modules, index
            modules = set()


def _trainer(frames: list[FrameType]) -> Any:
    callers = (frame.f_locals.get("self") for frame in frames)
    trainer = next(filter(is_trainer, callers), None)
    # A step that its author has jitted is not made anew with the trainer's function.
    return trainer if inspect.isfunction(getattr(type(trainer), "train_step", None)) else None


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
