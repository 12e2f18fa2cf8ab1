"""Model variables with their slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(slots=True)
class Tracked:
    """One model variable with everything that the update rule needs except its gradient."""

    variable: Any
    m: Any
    v: Any
    vhat: Any
    master: Any
    decays: bool
    index: int

    @property
    def moments(self) -> tuple[Any, Any, Any]:
        """The slots of the rule: m, v and, with amsgrad, vhat."""
        return self.m, self.v, self.vhat


class Assignment(NamedTuple):
    """Variables of one shape: targets of an assignment and the sources of its value, or None.

    Only the last target may have a lower precision than the computed value.
    """

    targets: list[Any]
    sources: list[Any]


class Assignments(list[Assignment]):
    """Assignments that are made again and again.

    Attributes:
        groups: What loops have found out about them, once.
    """

    groups: Any = None
