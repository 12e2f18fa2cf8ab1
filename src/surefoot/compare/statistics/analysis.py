"""Computes the summary of a run from its trials.

An optimizer's best learning rate is the best of several on the seeds of the search. Its result on
these seeds praises it: the 95 % interval of the best of seven equally good ones covers 88 % with
two seeds and 68 % with ten. So it is trained again with fresh seeds, and only these count for its
mean, its interval and all differences.

A mean's interval is Student's t. Differences between optimizers are tested with the Games-Howell
test, which compares all pairs at once and does not assume equal variances.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from scipy import stats

from surefoot.compare.statistics.summary import Difference, OptimizerSummary, Point, Summary, Width
from surefoot.compare.trials.store import Run

Grouped = dict[str, dict[float, list[dict[str, Any]]]]

CONFIDENCE = 0.95
# A learning rate is good within this distance of the overall best.
_NEAR_BEST_HIGHER = 0.01
_NEAR_BEST_LOWER_SHARE = 0.05
# A deviation below this fraction of the mean is rounding error.
_NO_SPREAD = 1e-12


def summarize(run: Run) -> Summary:
    """Summarize the trials of a run.

    Args:
        run: As read from disk; it need not be complete.
    """
    higher = bool(run.header["higher_is_better"])
    grouped, fresh = _grouped(run, fresh=False), _grouped(run, fresh=True)
    means = [
        statistics.fmean(results)
        for rates in grouped.values()
        for records in rates.values()
        if len(results := _results(records)) == len(records)
    ]
    bound = near_best(means, run.header)
    target = run.header["target"] if run.header["target"] is not None else bound
    optimizers = [
        _summarize_optimizer(label, rates, fresh[label], higher, bound, target)
        for label, rates in grouped.items()
    ]
    optimizers.sort(key=lambda each: _rank(each, higher))
    return Summary(
        metric=run.header["metric"],
        higher_is_better=higher,
        optimizers=tuple(optimizers),
        differences=_differences(optimizers),
        bound=bound,
        target=target,
        is_confirmed=bool(fresh) and all(each.is_confirmed for each in optimizers if each.best),
        failures=dict(run.failures),
        planned=len(run.planned),
        done=len(run.records),
    )


def _grouped(run: Run, *, fresh: bool) -> Grouped:
    """The records by optimizer and learning rate, in the order of the seeds."""
    grouped: Grouped = defaultdict(lambda: defaultdict(list))
    for trial in sorted(run.records):
        if trial.is_fresh == fresh:
            grouped[trial.optimizer][trial.learning_rate].append(run.records[trial])
    return grouped


def near_best(means: Sequence[float], header: dict[str, Any]) -> float | None:
    """The result from which on a learning rate is good.

    Args:
        means: Mean results of all optimizers at all learning rates.
        header: The run's header, with the task's direction and distance.
    """
    if not means:
        return None
    distance: float | None = header["near_best"]
    if header["higher_is_better"]:
        return max(means) - (_NEAR_BEST_HIGHER if distance is None else distance)
    best = min(means)
    return best + (_NEAR_BEST_LOWER_SHARE * abs(best) if distance is None else distance)


def confidence_interval(values: Sequence[float]) -> tuple[float, float]:
    """The confidence interval (Student's t) of the mean of at least two values."""
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    half *= statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half


def steps_to_target(record: dict[str, Any], target: float, higher: bool) -> int | None:
    """Steps until a trial's result first reached the target, among the points of its curve."""
    curve = record["curve"]
    for step, result in zip(curve["step"], curve["result"], strict=True):
        if result is not None and _reaches(result, target, higher):
            return int(step)
    return None


def _reaches(result: float, target: float, higher: bool) -> bool:
    return result >= target if higher else result <= target


def _results(records: list[dict[str, Any]]) -> list[float]:
    return [record["result"] for record in records if record["result"] is not None]


def _summarize_optimizer(
    label: str,
    rates: dict[float, list[dict[str, Any]]],
    fresh: dict[float, list[dict[str, Any]]],
    higher: bool,
    bound: float | None,
    target: float | None,
) -> OptimizerSummary:
    points = tuple(_point(rate, rates[rate], higher, target) for rate in sorted(rates))
    stable = [point for point in points if not point.diverged and point.mean is not None]
    chosen = (
        max(stable, key=lambda p: p.mean if higher else -p.mean)  # type: ignore[operator, return-value, arg-type]
        if stable
        else None
    )
    confirming = fresh.get(chosen.learning_rate, []) if chosen else []
    best = chosen
    if chosen is not None and confirming:
        best = _point(chosen.learning_rate, confirming, higher, target)
        best = None if best.mean is None else best
    records = [record for each in (rates, fresh) for some in each.values() for record in some]
    times = [r["seconds_per_step"] for r in records if r["status"] == "finished"]
    per_step = statistics.median(times) if times else None
    to_target = best.steps_to_target if best else None
    return OptimizerSummary(
        label=label,
        points=points,
        best=best,
        chosen=chosen.learning_rate if chosen else None,
        results=tuple(_results(confirming or rates[best.learning_rate])) if best else (),
        is_confirmed=bool(confirming),
        is_at_edge=chosen is not None and chosen in (points[0], points[-1]),
        width=_width(points, chosen, higher, bound) if chosen else None,
        trials=len(records),
        diverged=sum(record["result"] is None for record in records),
        seconds_per_step=per_step,
        seconds_to_target=(
            to_target * per_step if to_target is not None and per_step is not None else None
        ),
    )


def _point(rate: float, records: list[dict[str, Any]], higher: bool, target: float | None) -> Point:
    results = _results(records)
    mean = statistics.fmean(results) if results else None
    deviation = statistics.stdev(results) if len(results) > 1 else None
    low = high = None
    if mean is not None and deviation is not None and deviation > _NO_SPREAD * abs(mean):
        low, high = confidence_interval(results)
    steps = [] if target is None else [steps_to_target(r, target, higher) for r in records]
    median = statistics.median(math.inf if s is None else s for s in steps) if steps else math.inf
    return Point(
        learning_rate=rate,
        seeds=len(records),
        diverged=len(records) - len(results),
        mean=mean,
        deviation=deviation,
        low=low,
        high=high,
        reached=sum(s is not None for s in steps),
        steps_to_target=median if math.isfinite(median) else None,
    )


def _width(
    points: tuple[Point, ...], best: Point, higher: bool, bound: float | None
) -> Width | None:
    """Go from the best learning rate in both directions until the mean crosses the bound."""
    if bound is None or best.mean is None or not _reaches(best.mean, bound, higher):
        return None
    index = points.index(best)
    low, low_is_open = _edge(points[index::-1], higher, bound)
    high, high_is_open = _edge(points[index:], higher, bound)
    return Width(low, high, low_is_open, high_is_open)


def _edge(points: Sequence[Point], higher: bool, bound: float) -> tuple[float, bool]:
    inside = points[0]
    for point in points[1:]:
        if point.diverged or point.mean is None:
            # There is no mean to interpolate to: the last good learning rate is the edge.
            return inside.learning_rate, False
        if not _reaches(point.mean, bound, higher):
            assert inside.mean is not None
            share = (inside.mean - bound) / (inside.mean - point.mean)
            ratio = point.learning_rate / inside.learning_rate
            return float(inside.learning_rate * ratio**share), False
        inside = point
    return inside.learning_rate, True


def _rank(optimizer: OptimizerSummary, higher: bool) -> tuple[bool, float]:
    if optimizer.best is None or optimizer.best.mean is None:
        return True, 0.0
    return False, -optimizer.best.mean if higher else optimizer.best.mean


def _differences(optimizers: Sequence[OptimizerSummary]) -> tuple[Difference, ...]:
    ranked = [each for each in optimizers if each.best is not None]
    # Without any spread over seeds no test is possible; such an optimizer is left out.
    testable = [
        each
        for each in ranked
        if each.best is not None and each.best.low is not None and not each.best.diverged
    ]
    p_values: dict[str, float] = {}
    if len(testable) > 1 and ranked[0] is testable[0]:
        test = stats.tukey_hsd(*(each.results for each in testable), equal_var=False)
        p_values = {each.label: float(test.pvalue[0, i]) for i, each in enumerate(testable)}
    differences = []
    for other in ranked[1:]:
        p_value = p_values.get(other.label)
        differences.append(
            Difference(
                other=other.label,
                difference=statistics.fmean(ranked[0].results) - statistics.fmean(other.results),
                p_value=p_value,
                is_shown=p_value is not None and p_value < 1 - CONFIDENCE,
            )
        )
    return tuple(differences)
