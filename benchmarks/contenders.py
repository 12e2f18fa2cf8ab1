"""What takes part in a benchmark, and the Keras optimizers that do on every backend."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

ADAM_BYTES = 28
"""Bytes of float32 streams per parameter and step: p, g, m, v read, p, m, v written."""

RANGER_BYTES = ADAM_BYTES + 8 / 6
"""Every sixth step reads and writes the slow weights too."""


@dataclass(frozen=True)
class Running:
    """A contender with its tensors made: ``step()`` starts a step, ``wait()`` ends them all."""

    step: Callable[[], None]
    wait: Callable[[], None]


Tensors = list[np.ndarray]
Build = Callable[[Tensors, Any], Running]
"""From initial values and the backend's own gradients to a running contender."""


@dataclass(frozen=True)
class Contender:
    """Who runs, and what its step costs at the least.

    Attributes:
        name: Stands in the table.
        ours: Whether it is surefoot's.
        build: Makes its tensors and compiles nothing yet.
        floor: Which floor it is held against.
        bytes_per_parameter: Streams of its own, where they are more than its floor's.
        period: Steps after which its work repeats; turns are made of whole periods.
    """

    name: str
    ours: bool
    build: Build
    floor: Literal["adam", "amsgrad"] = "adam"
    bytes_per_parameter: float = ADAM_BYTES
    period: int = 1

    @property
    def floor_bytes(self) -> float:
        """Bytes per parameter of the floor it is held against."""
        return ADAM_BYTES if self.floor == "adam" else ADAM_BYTES + 8


@dataclass(frozen=True)
class Entry:
    """A Keras optimizer by its constructor, before a backend and a mode make it a contender."""

    make: Callable[..., Any]
    ours: bool = False
    floor: Literal["adam", "amsgrad"] = "adam"
    bytes_per_parameter: float = ADAM_BYTES
    period: int = 1

    def contender(self, name: str, build: Build) -> Contender:
        return Contender(name, self.ours, build, self.floor, self.bytes_per_parameter, self.period)


def _as_it_comes(optimizer: Any) -> Entry:
    """One of ours with its defaults, and a small number where there is none."""
    parameters = inspect.signature(optimizer).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    make = functools.partial(optimizer, **{p.name: 1e-4 for p in needed})
    # The parameter is read and written, its gradient is read.
    state = 8 * len(getattr(make(), "moment_names", ("m", "v")))
    return Entry(make, ours=True, bytes_per_parameter=12 + state)


def keras_optimizers() -> dict[str, Entry]:
    """Ours, and Keras's own of the same kind."""
    import keras

    import surefoot

    rectified, nadam = surefoot.RectifiedAdam, surefoot.Nadam
    family = {name: getattr(surefoot, name) for name in surefoot.optimizers.__all__}
    return {
        **{
            name: _as_it_comes(optimizer)
            for name, optimizer in family.items()
            # Wrappers are measured as a part of Ranger.
            if "learning_rate" in inspect.signature(optimizer).parameters
        },
        "RectifiedAdam weight_decay": Entry(lambda: rectified(weight_decay=1e-2), ours=True),
        "RectifiedAdam clipvalue": Entry(lambda: rectified(clipvalue=1.0), ours=True),
        "RectifiedAdam amsgrad": Entry(
            lambda: rectified(amsgrad=True), True, "amsgrad", ADAM_BYTES + 8
        ),
        "RectifiedAdam bfloat16 moments": Entry(
            lambda: rectified(moments="bfloat16"), ours=True, bytes_per_parameter=ADAM_BYTES - 8
        ),
        "Nadam bfloat16 moments": Entry(
            lambda: nadam(moments="bfloat16"), ours=True, bytes_per_parameter=ADAM_BYTES - 8
        ),
        "Ranger": Entry(surefoot.Ranger, True, "adam", RANGER_BYTES, period=6),
        "Nadam weight_decay": Entry(lambda: nadam(weight_decay=1e-2), ours=True),
        "keras Adam": Entry(keras.optimizers.Adam),
        "keras Nadam": Entry(keras.optimizers.Nadam),
    }
