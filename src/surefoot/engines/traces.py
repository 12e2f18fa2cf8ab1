"""Functions of Keras and of the user into which an optimizer's steps were compiled."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

from surefoot.variables.keras_optimizer import with_inner_optimizers


class Traces:
    """Functions of Keras and of the user into which one optimizer's steps were compiled."""

    def __init__(self) -> None:
        self._trainers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._exist: list[Callable[[], object]] = []

    def add_trainer(self, trainer: Any) -> None:
        """Note a Keras model whose training function has the step in it."""
        self._trainers.add(trainer)

    def add_function(self, exists: Callable[[], object]) -> None:
        """Note another function; ``exists`` tells whether it can still be called."""
        self._exist = [e for e in self._exist if e is not exists and e()] + [exists]

    def are_renewable(self) -> bool:
        """Whether all of them can be compiled anew."""
        if any(exists() for exists in self._exist):
            gc.collect()  # a function without references may still be there
        return not any(exists() for exists in self._exist)

    def renew(self) -> None:
        """Let the models compile their training functions anew."""
        trainers, self._trainers = list(self._trainers), weakref.WeakSet()
        for trainer in trainers:
            if trainer.train_function is not None:
                trainer.make_train_function(force=True)


def note_trace(optimizer: Any, trainer: Any, exists: Callable[[], object]) -> None:
    """Let ``optimizer``, and those that it wraps, know the function that a step is traced into.

    Args:
        optimizer: The optimizer whose step it is.
        trainer: The Keras model whose training function that is, or None.
        exists: Whether a function that is not a model's can still be called.
    """
    for one in with_inner_optimizers(optimizer):
        traces = getattr(one, "traces", None)
        if isinstance(traces, Traces):
            if trainer is not None:
                traces.add_trainer(trainer)
            else:
                traces.add_function(exists)
