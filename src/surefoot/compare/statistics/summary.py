"""The answer in numbers: best learning rates, intervals over seeds, widths, time to a target.

What it consists of; `analysis` works it out. All intervals have 95 % confidence and are over seeds
(initial weights and order of the batches), not over other data.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Point:
    """An optimizer at one learning rate, over the seeds.

    Attributes:
        mean, deviation, low, high: Of the result over the seeds that finished: mean, standard
            deviation, ends of the interval. `None` where too few seeds or no spread allow none.
        steps_to_target: Median over all seeds; `None` if half of them or more never reach it.
    """

    learning_rate: float
    seeds: int
    diverged: int
    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None
    reached: int
    steps_to_target: float | None


@dataclass(frozen=True)
class Width:
    """The range of good learning rates around an optimizer's best one.

    Attributes:
        factor: `high / low`.
        low_is_open, high_is_open: The range goes on beyond the learning rates tried.
    """

    low: float
    high: float
    low_is_open: bool
    high_is_open: bool

    @property
    def factor(self) -> float:
        """How many times the lowest good learning rate the highest is."""
        return self.high / self.low


@dataclass(frozen=True)
class OptimizerSummary:
    """What the trials say about one optimizer.

    Attributes:
        best: The learning rate with the best mean among those where no seed diverged; `None` if
            there is none.
        results: The results behind `best`, one per seed.
        is_at_edge: Whether `best` is the lowest or highest learning rate tried.
    """

    label: str
    points: tuple[Point, ...]
    best: Point | None
    results: tuple[float, ...]
    is_at_edge: bool
    width: Width | None
    trials: int
    diverged: int
    seconds_per_step: float | None
    seconds_to_target: float | None


@dataclass(frozen=True)
class Difference:
    """The leader against another optimizer, both at their best learning rate.

    Attributes:
        difference: Leader's mean minus the other's.
        p_value: How often chance alone would set two optimizers this far apart, corrected for all
            pairs being compared; `None` where there is no spread to judge it by.
        is_shown: Whether that is less than 5 %: whether the 95 % interval leaves zero out.
    """

    other: str
    difference: float
    p_value: float | None
    is_shown: bool


@dataclass(frozen=True)
class Summary:
    """The answer in numbers.

    Attributes:
        optimizers: In order of their best results, best first.
        differences: The first optimizer against each of the others.
        bound: The result that makes a learning rate a good one; `None` if nothing finished.
        target: The result whose first reaching is timed.
        failures: Optimizers that could not be trained, and why.
        planned, done: Numbers of trials asked for and on disk.
    """

    metric: str
    higher_is_better: bool
    optimizers: tuple[OptimizerSummary, ...]
    differences: tuple[Difference, ...]
    bound: float | None
    target: float | None
    failures: dict[str, str]
    planned: int
    done: int

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain values for JSON."""
        content = asdict(self)
        for optimizer, plain in zip(self.optimizers, content["optimizers"], strict=True):
            if optimizer.width is not None:
                plain["width"]["factor"] = optimizer.width.factor
        return content
