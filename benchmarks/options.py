"""What of the benchmark is run; the default is all of it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Choices that every process of a run shares.

    Attributes:
        contender: Regular expression that a contender's whole name must match; None takes all.
        rounds: How often everyone has a turn.
        seconds: How long a turn is at the least.
        device: "cpu" or "gpu".
    """

    contender: str | None = None
    rounds: int = 15
    seconds: float = 0.1
    device: str = "cpu"

    def takes(self, name: str) -> bool:
        """Whether a contender takes part."""
        return self.contender is None or re.fullmatch(self.contender, name) is not None
