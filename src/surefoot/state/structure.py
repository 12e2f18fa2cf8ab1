"""What compiled steps hold fixed, and what becomes of them when that changes.

Numbers are read by each step. A schedule, a clipping bound or the set of variables that decay
is compiled into it: when one of these is changed, the steps that are compiled already have to
be compiled anew, ours as those in the training function of a Keras model. Where somebody else
has compiled a step into a function, nobody can; the change is refused then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from surefoot.arguments import keywords
from surefoot.engines.traces import Traces
from surefoot.state.attachment import require_attached


class CompiledStructure:
    """The part of an optimizer that knows where its steps are compiled; mixed in before Keras's."""

    name: str
    _iterations: Any
    eager_steps: dict[Any, Any]
    """Steps that an engine has compiled, by whatever it holds fixed."""
    traces: Traces

    def invalidate_compiled_steps(self) -> None:
        """Compile steps anew, except those in functions of which only their owners know."""
        self.eager_steps.clear()
        self.__dict__["_structure"] += 1
        self.traces.renew()

    def compile_key(self) -> tuple[int, ...]:
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
        self.invalidate_compiled_steps()

    # What Keras keeps as plain attributes.

    def __setattr__(self, name: str, value: Any) -> None:
        # In Keras's constructor "built" is set after the arguments, which were checked before.
        if name not in keywords.BASE_ARGUMENTS or "built" not in self.__dict__:
            super().__setattr__(name, value)
        elif value != getattr(self, name):
            self._check_base_argument(name, value)
            with self.changing_structure(f"{name}={value!r}"):
                super().__setattr__(name, value)

    def _check_base_argument(self, name: str, value: Any) -> None:
        """Refuse what the constructor would refuse, and what needs variables of its own."""
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
