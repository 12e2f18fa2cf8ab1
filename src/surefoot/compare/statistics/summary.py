"""The summary of a run: best learning rates, intervals over seeds, widths, time to a target.

`analysis` computes it. All intervals have 95 % confidence and are over seeds
(initial weights and order of the batches), not over other data.
"""

from dataclasses import asdict, dataclass
from typing import Any

from surefoot.compare.search.space import Setting


@dataclass(frozen=True)
class Point:
    """An optimizer at one setting, over the seeds.

    Attributes:
        others: The hyperparameters other than the learning rate that were searched.
        mean, deviation, low, high: Mean, standard deviation and interval of the result over the
            seeds that finished. `None` if there are too few seeds or no spread.
        steps_to_target: Median over all seeds; `None` if at least half of them never reach it.
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
    others: tuple[tuple[str, float], ...] = ()

    @property
    def setting(self) -> Setting:
        """The hyperparameters."""
        return Setting(self.learning_rate, self.others)


@dataclass(frozen=True)
class Width:
    """The range of good learning rates around an optimizer's best one.

    Attributes:
        factor: `high / low`.
        low_is_open, high_is_open: Whether the range continues beyond the learning rates tried.
    """

    low: float
    high: float
    low_is_open: bool
    high_is_open: bool

    @property
    def factor(self) -> float:
        """The highest good learning rate divided by the lowest."""
        return self.high / self.low


@dataclass(frozen=True)
class OptimizerSummary:
    """The summary of one optimizer.

    Attributes:
        best: The setting with the best mean among those where no seed diverged, with what
            the fresh seeds gave there, if any were trained; `None` if there is none.
        chosen: The learning rate that was best on the seeds of the search.
        results, seeds: The results at `best`, and the seeds that gave them.
        is_confirmed: Whether these are of fresh seeds, which took no part in its choice.
        is_at_edge: Whether `best` is the lowest or highest learning rate tried.
        other_edges: The other hyperparameters of which the same is true.
        settings: How many settings were tried.
    """

    label: str
    points: tuple[Point, ...]
    best: Point | None
    chosen: float | None
    results: tuple[float, ...]
    is_confirmed: bool
    is_at_edge: bool
    width: Width | None
    trials: int
    diverged: int
    seconds_per_step: float | None
    seconds_to_target: float | None
    seeds: tuple[int, ...] = ()
    other_edges: tuple[str, ...] = ()
    settings: int = 0


@dataclass(frozen=True)
class Difference:
    """The best optimizer compared with another, both at their best setting.

    Attributes:
        difference: The best optimizer's mean minus the other's.
        p_value: The p-value of the difference, corrected for the comparison of all pairs; `None`
            if there is no spread to test with.
        is_shown: Whether it is less than 5 %.
        more_seeds: How many seeds more would show it with a probability of 80 %, if it is what was
            seen; `None` if it is shown, or more than a thousand would be needed.
    """

    other: str
    difference: float
    p_value: float | None
    is_shown: bool
    more_seeds: int | None = None


@dataclass(frozen=True)
class Method:
    """How the settings were found and trained.

    Attributes:
        search: `"qmc"`, `"tpe"` or `"grid"`.
        schedule: How learning rates change over a run.
        own_schedules: Optimizers whose learning rates change as their expressions say.
        halving: By what the better half of the settings was chosen, `"seeds"` or `"steps"`.
        lengths: The steps of runs that were cut short for this.
        beyond: The learning rates tried beyond the range, because an optimum was at its edge.
        budget: What was allowed, as on the command line.
        fixed: Hyperparameters that were searched, and the optimizers that do not vary them.
    """

    search: str = "grid"
    schedule: str = "constant"
    own_schedules: tuple[str, ...] = ()
    halving: str | None = None
    lengths: tuple[int, ...] = ()
    beyond: tuple[float, ...] = ()
    budget: str | None = None
    fixed: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Summary:
    """The summary of a run.

    Attributes:
        optimizers: In order of their best results, best first.
        differences: The first optimizer against each of the others.
        bound: The result from which on a learning rate is good; `None` if nothing finished.
        target: The result for which the time to reach it is measured.
        target_of: The optimizer whose best result in the search is the target, if one was chosen.
        is_target_given: Whether somebody chose the target; otherwise it is the bound.
        validation_examples: How many there are; `None` in runs that did not record it.
        validation_noise: The standard error of the best result that their number alone leaves.
        is_confirmed: Whether all means of best learning rates are of fresh seeds.
        failures: Optimizers that could not be trained, and why.
        planned, done: Numbers of trials requested and on disk.
    """

    metric: str
    higher_is_better: bool
    optimizers: tuple[OptimizerSummary, ...]
    differences: tuple[Difference, ...]
    bound: float | None
    target: float | None
    is_confirmed: bool
    failures: dict[str, str]
    planned: int
    done: int
    method: Method = Method()
    target_of: str | None = None
    is_target_given: bool = False
    validation_examples: int | None = None
    validation_noise: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain values for JSON."""
        content = asdict(self)
        for optimizer, plain in zip(self.optimizers, content["optimizers"], strict=True):
            if optimizer.width is not None:
                plain["width"]["factor"] = optimizer.width.factor
        return content
