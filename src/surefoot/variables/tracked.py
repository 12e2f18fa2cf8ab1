"""Model variables with their slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(slots=True)
class Tracked:
    """One model variable with everything that the update rule needs except its gradient.

    Attributes:
        variable: The variable.
        m: Its first moment, or None.
        v: Its second moment, or None.
        vhat: The largest second moment so far, or None.
        master: Its exact value, or None.
        decays: Whether weight decay applies to it.
        index: Its position among all variables.
        key: Of the bits by which its moments are rounded.
        by_norm: Whether its step depends on the norms of whole tensors.
    """

    variable: Any
    m: Any
    v: Any
    vhat: Any
    master: Any
    decays: bool
    index: int
    key: int
    by_norm: bool = False

    @property
    def moments(self) -> tuple[Any, Any, Any]:
        """The slots of the rule: m, v and, with amsgrad, vhat."""
        return self.m, self.v, self.vhat

    @property
    def full_slot(self) -> Any:
        """A slot of the variable's shape; the variable itself if there is none."""
        slots = (self.m, self.v, self.variable)
        return next(s for s in slots if s is not None)


class Assignment(NamedTuple):
    """Variables of one shape: targets of an assignment and the sources of its value, or None.

    Attributes:
        targets: Those of 16 bits come last.
        sources: What the value is computed from.
        forms: In which form of `surefoot.rule.rounding.in_form` each target gets the value.
        key: Of the bits by which it is rounded at random.
    """

    targets: list[Any]
    sources: list[Any]
    forms: tuple[str, ...]
    key: int


class Assignments(list[Assignment]):
    """Assignments that are made again and again.

    Attributes:
        groups: What loops have found out about them, once.
    """

    groups: Any = None
