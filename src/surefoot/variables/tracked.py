"""Model variables with the slots that belong to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(slots=True)
class Tracked:
    """One model variable with everything the rule needs besides its gradient."""

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
    """Variables of one shape: those that get a value, and those it is computed from, or None.

    The last target may hold the value rounded; those before hold it as it is computed.
    """

    targets: list[Any]
    sources: list[Any]
