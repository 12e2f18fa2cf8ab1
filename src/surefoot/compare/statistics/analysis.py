"""Computes the summary of a run from its trials.

An optimizer's best setting is the best of several on the seeds of the search. Its result on
these seeds praises it: the 95 % interval of the best of 35 equally good ones (five optimizers at
seven settings) covers 87 % with two seeds and 56 % with ten. So it is trained again with fresh
seeds, and only these count for its mean, its interval and all differences.

A mean's interval is Student's t. Where a measure is known to have bounds the interval is cut there,
which takes nothing from its confidence, since no mean lies beyond them.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from scipy import stats

from surefoot.compare.search.space import Setting
from surefoot.compare.statistics.differences import CONFIDENCE, differences, has_spread
from surefoot.compare.statistics.outcomes import Outcomes, Records, all_outcomes, results_of
from surefoot.compare.statistics.summary import Method, OptimizerSummary, Point, Summary, Width
from surefoot.compare.trials.store import Run, Trial

Bounds = tuple[float | None, float | None]

# A learning rate is good within this distance of the overall best.
_NEAR_BEST_HIGHER = 0.01
_NEAR_BEST_LOWER_SHARE = 0.05


def summarize(run: Run) -> Summary:
    """Summarize the trials of a run.

    Args:
        run: As read from disk; it need not be complete.
    """
    higher = bool(run.header["higher_is_better"])
    found = all_outcomes(run)
    means = {label: _stable_means(each.eligible) for label, each in found.items()}
    bound = near_best([mean for each in means.values() for mean in each], run.header)
    target_of = run.last("target_of")
    given = run.last("target")
    if target_of is not None:
        reached = means.get(target_of, [])
        given = (max(reached) if higher else min(reached)) if reached else None
    given = run.header["target"] if given is None else given
    target = bound if given is None else given
    bounds = _bounds(run)
    optimizers = [
        _summarize_optimizer(label, each, higher, bound, target, bounds)
        for label, each in found.items()
    ]
    optimizers.sort(key=lambda each: _rank(each, higher))
    ranked = [each for each in optimizers if each.best is not None]
    return Summary(
        metric=run.header["metric"],
        higher_is_better=higher,
        optimizers=tuple(optimizers),
        differences=differences(ranked),
        bound=bound,
        target=target,
        is_confirmed=bool(ranked) and all(each.is_confirmed for each in ranked),
        failures=dict(run.failures),
        planned=len(run.planned),
        done=len(run.records) + len(run.short),
        method=_method(run),
        target_of=target_of,
        is_target_given=given is not None,
        validation_examples=run.header.get("validation_examples"),
        validation_noise=_noise(run, ranked[0]) if ranked else None,
    )


def _stable_means(settings: Mapping[Setting, Records]) -> list[float]:
    """The mean results of the settings at which no seed diverged."""
    found = [list(results_of(records).values()) for records in settings.values()]
    sizes = map(len, settings.values())
    return [statistics.fmean(x) for x, size in zip(found, sizes, strict=True) if len(x) == size]


def _bounds(run: Run) -> Bounds:
    """Between which values all results lie, if the task says so and they do."""
    low, high = run.header.get("bounds", (None, None))
    results = [record["result"] for record in run.records.values()]
    known = [result for result in results if result is not None]
    return (
        None if low is None or any(result < low for result in known) else low,
        None if high is None or any(result > high for result in known) else high,
    )


def _method(run: Run) -> Method:
    request = run.last("request", {})
    trials = {trial.optimizer for trial in run.records}
    beyond = {each.learning_rate for x in trials for each in run.settings(x, "extension")}
    varied: Mapping[str, list[str]] = {
        label: names for start in run.starts for label, names in start["varied"].items()
    }
    names = dict.fromkeys(text.partition("=")[0] for text in request.get("vary", ()))
    fixed = {name: tuple(x for x in varied if name not in varied[x]) for name in names}
    own = {label for start in run.starts for label in start["own_schedules"]}
    return Method(
        search=run.last("search", "grid"),
        schedule=run.header.get("schedule", "constant"),
        own_schedules=tuple(sorted(own & trials)),
        halving=request.get("halving") or None,
        lengths=tuple(sorted({trial.length for trial in run.short})),
        beyond=tuple(sorted(beyond)),
        budget=request.get("budget"),
        fixed=tuple((name, labels) for name, labels in fixed.items() if labels),
    )


def _noise(run: Run, leader: OptimizerSummary) -> float | None:
    """The median of what the number of validation examples leaves in the results of the leader."""
    assert leader.best is not None
    trials = [Trial.at(leader.label, leader.best.setting, seed) for seed in leader.seeds]
    known = [run.records[trial].get("validation_noise") for trial in trials]
    noise = [each for each in known if each is not None]
    return statistics.median(noise) if noise else None


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


def confidence_interval(
    values: Sequence[float], bounds: Bounds = (None, None)
) -> tuple[float, float]:
    """The confidence interval (Student's t) of the mean of at least two values.

    Args:
        values: The values.
        bounds: Beyond which there is no mean.

    Example:
        >>> from surefoot.compare.statistics.analysis import confidence_interval
        >>> confidence_interval([0.8, 0.9, 0.95], bounds=(0.0, 1.0))
        (0.69..., 1.0)
    """
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    half *= statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    lowest, highest = bounds
    return (
        mean - half if lowest is None else max(mean - half, lowest),
        mean + half if highest is None else min(mean + half, highest),
    )


def steps_to_target(record: dict[str, Any], target: float, higher: bool) -> int | None:
    """Steps until a trial's result first reached the target, among the points of its curve."""
    curve = record["curve"]
    for step, result in zip(curve["step"], curve["result"], strict=True):
        if result is not None and _reaches(result, target, higher):
            return int(step)
    return None


def _reaches(result: float, target: float, higher: bool) -> bool:
    return result >= target if higher else result <= target


def _summarize_optimizer(
    label: str,
    found: Outcomes,
    higher: bool,
    bound: float | None,
    target: float | None,
    bounds: Bounds,
) -> OptimizerSummary:
    points = tuple(
        _point(setting, records, higher, target, bounds)
        for setting, records in found.searched.items()
    )
    stable = [
        point
        for point in points
        if not point.diverged and point.mean is not None and point.setting in found.eligible
    ]
    # Of several that are as good, as where all examples are right, that in the middle.
    top = (max if higher else min)((p.mean for p in stable if p.mean is not None), default=None)
    tied = [point for point in stable if point.mean == top]
    chosen = tied[(len(tied) - 1) // 2] if tied else None
    confirming = found.fresh.get(chosen.setting, {}) if chosen else {}
    best = chosen
    if chosen is not None and confirming:
        best = _point(chosen.setting, confirming, higher, target, bounds)
        best = None if best.mean is None else best
    results = results_of(confirming or found.searched[best.setting]) if best else {}
    edges = _edges(chosen.setting, found.tried) if chosen else []
    times = [r["seconds_per_step"] for r in found.every if r["status"] == "finished"]
    per_step = statistics.median(times) if times else None
    to_target = best.steps_to_target if best else None
    is_searched_alone = not any(point.others for point in points) and len(points) == len(
        found.tried
    )
    return OptimizerSummary(
        label=label,
        points=points,
        best=best,
        chosen=chosen.learning_rate if chosen else None,
        results=tuple(results.values()),
        seeds=tuple(results),
        is_confirmed=bool(confirming),
        is_at_edge=bool(chosen) and (len(found.tried) == 1 or "learning_rate" in edges),
        other_edges=tuple(name for name in edges if name != "learning_rate"),
        width=_width(points, chosen, higher, bound) if chosen and is_searched_alone else None,
        trials=len(found.every),
        settings=len(found.tried),
        diverged=sum(record["result"] is None for record in found.every),
        seconds_per_step=per_step,
        seconds_to_target=(
            to_target * per_step if to_target is not None and per_step is not None else None
        ),
    )


def _edges(chosen: Setting, tried: Collection[Setting]) -> list[str]:
    """The hyperparameters whose chosen value is the lowest or highest of those tried."""
    edges = []
    for name, value in chosen.to_dict().items():
        values = {setting.to_dict()[name] for setting in tried}
        if len(values) > 1 and value in (min(values), max(values)):
            edges.append(name)
    return edges


def _point(
    setting: Setting, records: Records, higher: bool, target: float | None, bounds: Bounds
) -> Point:
    results = list(results_of(records).values())
    mean = statistics.fmean(results) if results else None
    low = high = None
    if mean is not None and has_spread(results, mean):
        low, high = confidence_interval(results, bounds)
    every = records.values()
    steps = [] if target is None else [steps_to_target(r, target, higher) for r in every]
    median = statistics.median(math.inf if s is None else s for s in steps) if steps else math.inf
    return Point(
        learning_rate=setting.learning_rate,
        others=setting.others,
        seeds=len(records),
        diverged=len(records) - len(results),
        mean=mean,
        deviation=statistics.stdev(results) if len(results) > 1 else None,
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
