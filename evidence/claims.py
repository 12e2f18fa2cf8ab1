"""Claims, and what the measurements say about them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from surefoot.compare.statistics.analysis import confidence_interval

REPRODUCED = "reproduced"
REFUTED = "refuted here"
OPEN = "not reproduced"
NOT_RUN = "not run"

Results = dict[str, Any]
"""What an experiment measured, as its file in `evidence/results` holds it."""

Measure = Callable[[Results], Sequence[float]]
"""One value per seed, from the experiment's results."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval (Student's t).

    Attributes:
        low, high: Ends of the interval; not finite if there are too few seeds for one.
    """

    mean: float
    low: float
    high: float
    seeds: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value per seed, and its interval."""
    if not values:
        return Estimate(math.nan, -math.inf, math.inf, 0)
    mean = statistics.fmean(values)
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return Estimate(mean, -math.inf, math.inf, len(values))
    return Estimate(mean, *confidence_interval(values), len(values))


@dataclass(frozen=True)
class Claim:
    """Something said about an optimizer, made so precise that a measurement can decide it.

    Args:
        key: Names it in links.
        source: Who says so.
        statement: What is said.
        quantity: What is measured for it, with its unit.
        holds: The claim holds where the quantity lies between these two.
        measure: The quantity; at a constant learning rate, where there is training. `None` if it
            was measured only with a schedule.
        scheduled: The quantity once more, with warmup and decay, as `surefoot compare` trains by
            default.
    """

    key: str
    source: str
    statement: str
    quantity: str
    holds: tuple[float, float]
    measure: Measure | None
    scheduled: Measure | None = None


@dataclass(frozen=True)
class Finding:
    """A claim with what became of it.

    Attributes:
        estimate: `None` if the experiment was not run.
        is_scheduled: Which of the claim's two measures this is.
    """

    claim: Claim
    estimate: Estimate | None
    is_scheduled: bool = False

    @property
    def verdict(self) -> str:
        """Reproduced or refuted if the whole interval says so, else not reproduced."""
        if self.estimate is None:
            return NOT_RUN
        low, high = self.claim.holds
        if low < self.estimate.low and self.estimate.high < high:
            return REPRODUCED
        if self.estimate.high < low or high < self.estimate.low:
            return REFUTED
        return OPEN


def judge(claim: Claim, results: Results | None) -> list[Finding]:
    """Hold a claim against the results of its experiment, or against none, by each measure."""
    measures = ((claim.measure, False), (claim.scheduled, True))
    return [
        Finding(claim, _estimate(measure, results), is_scheduled)
        for measure, is_scheduled in measures
        if measure is not None
    ]


def _estimate(measure: Measure, results: Results | None) -> Estimate | None:
    if results is None:
        return None
    try:
        return estimate(list(measure(results)))
    except KeyError:
        # The trials it needs are not among those recorded.
        return None
