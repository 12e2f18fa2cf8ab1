"""What compiled steps hold fixed, and what becomes of them when that changes.

Numbers are read by each step. A schedule, a clipping bound or the set of variables that decay
is compiled into it: when one of these is changed, the steps that are compiled already have to
be compiled anew, ours as those in the training function of a Keras model. Where somebody else
has compiled a step into a function, nobody can; the change is refused then.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from surefoot import arguments
from surefoot.hyperparameters import require_attached


class Traces:
    """The functions of others into which one optimizer's steps were compiled."""

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
            gc.collect()  # of a function that nobody has any more
        return not any(exists() for exists in self._exist)

    def renew(self) -> None:
        """Let the models compile their training functions anew."""
        trainers, self._trainers = list(self._trainers), weakref.WeakSet()
        for trainer in trainers:
            if trainer.train_function is not None:
                trainer.make_train_function(force=True)


def with_inner_optimizers(optimizer: Any) -> Iterator[Any]:
    """``optimizer`` and those that it wraps, from the outside in."""
    while optimizer is not None:
        yield optimizer
        optimizer = getattr(optimizer, "inner_optimizer", None)


class CompiledStructure:
    """The part of an optimizer that knows where its steps are compiled; mixed in before Keras's."""

    name: str
    _iterations: Any
    eager_steps: dict[Any, Any]
    """Steps that an engine has compiled, by whatever it holds fixed."""
    traces: Traces

    def forget_compiled_steps(self) -> None:
        """Compile steps anew, except those in functions of which only their owners know."""
        self.eager_steps.clear()
        self.__dict__["_structure"] += 1
        self.traces.renew()

    def structure(self) -> tuple[int, ...]:
        """A number that changes with what compiled steps hold fixed."""
        return (self.__dict__["_structure"],)

    @contextlib.contextmanager
    def changing_structure(self, change: str) -> Iterator[None]:
        """Let a ``with`` block change what compiled steps hold fixed; the next step sees it.

        Args:
            change: What is changed, for the error.

        Yields:
            Nothing.

        Raises:
            ValueError: If a function that cannot be compiled anew would not see it.
            RuntimeError: On JAX, inside of an epoch, if not from a callback of ``fit``.
        """
        if not self.traces.are_renewable():
            raise ValueError(
                f"A function of yours (a `tf.function`, or one under `jax.jit`) has a step of the "
                f"optimizer '{self.name}' compiled into it, and would go on without this change. "
                "Numbers can be changed at any time; schedules and callables in place of them, "
                "clipping and the exclusion from weight decay, only before that function is first "
                "called. Set them earlier, or make a new optimizer and a new function. "
                f"Received: {change}"
            )
        require_attached(self._iterations, change)
        yield
        self.forget_compiled_steps()

    # What Keras keeps as plain attributes.

    def __setattr__(self, name: str, value: Any) -> None:
        # In Keras's constructor "built" is set after the arguments, which were checked before.
        if name not in arguments.BASE_ARGUMENTS or "built" not in self.__dict__:
            super().__setattr__(name, value)
        elif value != getattr(self, name):
            self._check_base_argument(name, value)
            with self.changing_structure(f"{name}={value!r}"):
                super().__setattr__(name, value)

    def _check_base_argument(self, name: str, value: Any) -> None:
        """Refuse what the constructor would refuse, and what needs variables of its own."""
        arguments.take_base_arguments(type(self), {name: value})
        if self.__dict__["built"] and name in _FIXED_WHEN_BUILT:
            raise ValueError(
                f"`{name}` is fixed once the optimizer '{self.name}' is built; give it to the "
                f"constructor. Received: {name}={value!r}"
            )
        others = [n for n in _CLIPPING if n != name and getattr(self, n) is not None]
        if name in _CLIPPING and value is not None and others:
            raise ValueError(
                f"Only one of {', '.join(_CLIPPING)} can be set; set `{others[0]}` to None first. "
                f"Received: {name}={value!r}"
            )


def note_trace(optimizer: Any, trainer: Any, exists: Callable[[], object]) -> None:
    """Let ``optimizer``, and those that it wraps, know the function that a step is traced into.

    Args:
        optimizer: The optimizer whose step it is.
        trainer: The Keras model whose training function that is, or None.
        exists: Whether a function that is not a model's can still be called.
    """
    for one in with_inner_optimizers(optimizer):
        if isinstance(one, CompiledStructure):
            if trainer is not None:
                one.traces.add_trainer(trainer)
            else:
                one.traces.add_function(exists)


_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
_FIXED_WHEN_BUILT = ("gradient_accumulation_steps", "use_ema")
