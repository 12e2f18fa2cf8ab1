"""Who ends better, each at its best learning rate: the same claims for every task."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from evidence.claims import Claim, Measure, Results
from evidence.comparison import SCHEDULED, Comparison, Trials

EVERYONE = (
    *("adam", "adam+cosine", "radam", "radam+cosine"),
    *("nadam", "keras.nadam", "lookahead(adam)", "ranger"),
)
"""Those compared with a schedule; `+cosine` leaves out its warmup."""

WARMUP = "Adam+warmup(0.1)"
"""The warmup of the comparisons without a decay."""

TrialsOf = Callable[[Results, str], Trials]
"""The trials of a part of an experiment's results, `constant` or `scheduled`."""


@dataclass(frozen=True)
class Unit:
    """How results of a task are compared.

    Args:
        name: Of a difference.
        scale: Makes a difference of results one in that unit.
        near: Within this difference two results are as good.
    """

    name: str
    scale: float
    near: float


Pair = tuple[str, str]


@dataclass(frozen=True)
class _Contest:
    key: str
    source: str
    statement: str
    who: str
    holds: Callable[[float], tuple[float, float]]
    constant: Pair | None
    scheduled: Pair


def _better(near: float) -> tuple[float, float]:
    return 0, math.inf


def _as_good(near: float) -> tuple[float, float]:
    return -near, math.inf


def _same(near: float) -> tuple[float, float]:
    return -near, near


_CONTESTS = (
    _Contest(
        "radam-replaces-warmup",
        "RAdam paper",
        "RAdam without a warmup does as well as Adam with one",
        "RAdam over Adam with a warmup",
        _as_good,
        ("RectifiedAdam", WARMUP),
        ("RectifiedAdam+cosine", "Adam"),
    ),
    _Contest(
        "radam-beats-adam",
        "RAdam paper",
        "Without a warmup, RAdam ends better than Adam",
        "RAdam over Adam",
        _better,
        ("RectifiedAdam", "Adam"),
        ("RectifiedAdam+cosine", "Adam+cosine"),
    ),
    _Contest(
        "radam-beats-adam-warmed-up",
        "asked here",
        "With a warmup for both, RAdam ends better than Adam",
        "RAdam over Adam, both with a warmup",
        _better,
        None,
        ("RectifiedAdam", "Adam"),
    ),
    _Contest(
        "radam-needs-no-warmup",
        "documentation",
        "RAdam does as well without a warmup in addition",
        "RAdam over RAdam with a warmup",
        _as_good,
        None,
        ("RectifiedAdam+cosine", "RectifiedAdam"),
    ),
    _Contest(
        "nadam-beats-adam",
        "Nadam paper",
        "Nadam ends better than Adam",
        "Nadam over Adam",
        _better,
        ("Nadam", "Adam"),
        ("Nadam", "Adam"),
    ),
    _Contest(
        "lookahead-beats-adam",
        "Lookahead paper",
        "Lookahead around Adam ends better than Adam",
        "Lookahead(Adam) over Adam",
        _better,
        ("Lookahead(Adam)", "Adam"),
        ("Lookahead(Adam)", "Adam"),
    ),
    _Contest(
        "ranger-beats-radam",
        "Lookahead paper",
        "Ranger ends better than the RAdam inside it",
        "Ranger over RAdam",
        _better,
        ("Ranger", "RectifiedAdam"),
        ("Ranger", "RectifiedAdam"),
    ),
    _Contest(
        "keras-nadam-as-good",
        "trials",
        "At its best, Keras 3's Nadam ends where tf.keras 2's does",
        "Nadam over Keras 3's",
        _same,
        ("Nadam", "keras.Nadam"),
        ("Nadam", "keras.Nadam"),
    ),
)


def scheduled(
    constant: Comparison, rates: str, seeds: int, optimizers: Sequence[str] = EVERYONE
) -> Comparison:
    """The comparison with a schedule.

    Args:
        constant: The one without, of the same task.
        rates: The range of learning rates, and how many are tried.
        seeds: How many the search has.
        optimizers: Who is compared.
    """
    return replace(
        constant,
        name=f"{constant.name}-scheduled",
        sweeps=((optimizers, rates),),
        seeds=seeds,
        protocol=SCHEDULED,
    )


def claims(prefix: str, task: str, unit: Unit, trials: TrialsOf) -> tuple[Claim, ...]:
    """The claims for one task.

    Args:
        prefix: Of their keys.
        task: In words.
        unit: Of the task's results.
        trials: Finds them.
    """

    def measure(part: str, pair: Pair | None) -> Measure | None:
        if pair is None:
            return None
        return partial(_lead, trials=trials, part=part, pair=pair, scale=unit.scale)

    return tuple(
        Claim(
            prefix + each.key,
            each.source,
            f"{each.statement} ({task})",
            f"lead of {each.who}, each at its best learning rate, {unit.name}",
            each.holds(unit.near),
            measure("constant", each.constant),
            measure("scheduled", each.scheduled),
        )
        for each in _CONTESTS
    )


def _lead(results: Results, trials: TrialsOf, part: str, pair: Pair, scale: float) -> list[float]:
    """By seed, by how much the first of a pair is better."""
    table = trials(results, part)
    one, other = map(table.best, pair)
    return [scale * each for each in table.advantage(one, other)]
