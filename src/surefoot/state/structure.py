"""Recompiles steps when something that is compiled into them changes.

Each step reads numbers from variables. Schedules, clipping bounds and the set of variables that
decay are compiled into it. When one of these changes, the compiled steps must be compiled again:
this package's own, and those in the training function of a Keras model. A step that the user has
compiled into another function cannot be recompiled; the change is then an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from surefoot.arguments import keywords
from surefoot.engines.traces import Traces
from surefoot.state.attachment import require_attached


class OwnFacts(dict[Any, Any]):
    """What holds for one optimizer and its variables: a copy of the optimizer has none of it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> OwnFacts:
        return OwnFacts()

    def __reduce__(self) -> tuple[type[OwnFacts], tuple[()]]:
        return OwnFacts, ()


class CompiledStructure:
    """Mixin for optimizers that knows where steps are compiled; it comes before Keras's class."""

    name: str
    _iterations: Any
    eager_steps: dict[Any, Any]
    """Steps that an engine has compiled, by the values compiled into them."""
    structure_facts: dict[str, Any]
    """What has been found out about the structure, and holds until that changes."""
    traces: Traces

    def invalidate_compiled_steps(self) -> None:
        """Let steps be compiled again, except those in functions of the user."""
        self.eager_steps.clear()
        self.structure_facts.clear()
        self.__dict__["_structure"] += 1
        self.traces.renew()

    def compile_key(self) -> tuple[int, ...]:
        """A number that changes when something that is compiled into steps changes."""
        return (self.__dict__["_structure"],)

    @contextlib.contextmanager
    def changing_structure(self, change: str) -> Iterator[None]:
        """Let a ``with`` block change something that is compiled into steps.

        Args:
            change: The change, for the error.

        Yields:
            Nothing.

        Raises:
            ValueError: If a function that cannot be recompiled would ignore the change.
            RuntimeError: On JAX, during an epoch, if not called from a callback of ``fit``.
        """
        if not self.traces.are_renewable():
            raise ValueError(
                "One of your functions (a `tf.function`, or one under `jax.jit`) has compiled a "
                f"step of the optimizer '{self.name}' and would ignore this change. Numbers can be "
                "changed at any time. Schedules, callables, clipping and the exclusion from "
                "weight decay can be changed only before that function is first called. Set them "
                "earlier, or create a new optimizer and a new function. "
                f"Received: {change}"
            )
        require_attached(self._iterations, change)
        yield
        self.invalidate_compiled_steps()

    # Arguments that Keras keeps as plain attributes.

    def __setattr__(self, name: str, value: Any) -> None:
        # Keras's constructor sets "built" after the arguments, which are already checked.
        if name not in keywords.BASE_ARGUMENTS or "built" not in self.__dict__:
            super().__setattr__(name, value)
        elif value != getattr(self, name):
            self._check_base_argument(name, value)
            with self.changing_structure(f"{name}={value!r}"):
                super().__setattr__(name, value)

    def _check_base_argument(self, name: str, value: Any) -> None:
        """Raise an error for values that the constructor rejects, or that need new variables."""
        keywords.take_base_arguments(type(self), {name: value})
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


_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
_FIXED_WHEN_BUILT = ("gradient_accumulation_steps", "use_ema")
