"""Which differences between optimizers can be shown, and how many seeds would show the others.

A seed gives every optimizer the same initial weights and batches, so optimizers are compared seed
by seed: Student's t on the differences. All pairs are tested, and their p-values corrected for that
(Holm), because the leader is one of several and may lead by chance.
"""

import bisect
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence

from scipy import stats

from surefoot.compare.statistics.summary import Difference, OptimizerSummary

CONFIDENCE = 0.95
# With this probability the further seeds would show a difference that is what was seen.
POWER = 0.8
MOST_SEEDS = 1000
"""Above so many seeds, a question is not worth an answer by more of them."""

# A deviation below this fraction of the values is rounding error.
_NO_SPREAD = 1e-12


def has_spread(values: Sequence[float], scale: float) -> bool:
    """Whether values differ by more than rounding does at this scale."""
    return len(values) > 1 and statistics.stdev(values) > _NO_SPREAD * abs(scale)


def differences(ranked: Sequence[OptimizerSummary]) -> tuple[Difference, ...]:
    """The first optimizer against each of the others.

    Args:
        ranked: Those with a result, best first.
    """
    stable = [each for each in ranked if each.best is not None and not each.best.diverged]
    pairs = {
        (one.label, other.label): values
        for one, other in itertools.combinations(stable, 2)
        if has_spread(values := _paired(one, other), statistics.fmean(one.results))
    }
    p_values = holm({names: float(stats.ttest_1samp(x, 0).pvalue) for names, x in pairs.items()})
    found = []
    for other in ranked[1:]:
        names = (ranked[0].label, other.label)
        p_value = p_values.get(names)
        is_shown = p_value is not None and p_value < 1 - CONFIDENCE
        found.append(
            Difference(
                other=other.label,
                difference=statistics.fmean(ranked[0].results) - statistics.fmean(other.results),
                p_value=p_value,
                is_shown=is_shown,
                more_seeds=None
                if is_shown or p_value is None
                else more_seeds(pairs[names], (1 - CONFIDENCE) / len(pairs)),
            )
        )
    return tuple(found)


def _paired(one: OptimizerSummary, other: OptimizerSummary) -> list[float]:
    """The differences at the seeds that both have."""
    theirs = dict(zip(other.seeds, other.results, strict=True))
    mine = zip(one.seeds, one.results, strict=True)
    return [result - theirs[seed] for seed, result in mine if seed in theirs]


def holm(p_values: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """The p-values, corrected for there being several of them (Holm, 1979).

    Example:
        >>> from surefoot.compare.statistics.differences import holm
        >>> corrected = holm({("a", "b"): 0.01, ("a", "c"): 0.04, ("b", "c"): 0.03})
        >>> [round(p, 3) for p in corrected.values()]
        [0.03, 0.06, 0.06]
    """
    corrected: dict[tuple[str, str], float] = {}
    highest = 0.0
    for i, names in enumerate(sorted(p_values, key=p_values.__getitem__)):
        highest = max(highest, min((len(p_values) - i) * p_values[names], 1.0))
        corrected[names] = highest
    return {names: corrected[names] for names in p_values}


def more_seeds(values: Sequence[float], level: float) -> int | None:
    """How many seeds more would show a difference, if it is what was seen; `None` if too many.

    Args:
        values: The differences seed by seed.
        level: The p-value below which a difference is shown.
    """
    effect = abs(statistics.fmean(values)) / statistics.stdev(values)

    def is_enough(count: int) -> bool:
        critical = stats.t.ppf(1 - level / 2, count - 1)
        power = stats.nct.sf(critical, count - 1, effect * math.sqrt(count))
        return bool(power >= POWER)

    counts = range(len(values) + 1, len(values) + MOST_SEEDS + 1)
    found = bisect.bisect_left(counts, True, key=is_enough)
    return found + 1 if found < len(counts) else None
