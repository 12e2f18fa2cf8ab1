"""The verdict as sentences that claim no more than the intervals allow."""

import itertools

from surefoot.compare.formatting import factor_text, join, number, setting_text
from surefoot.compare.statistics import method
from surefoot.compare.statistics.summary import OptimizerSummary, Point, Summary


def verdict(summary: Summary) -> list[str]:
    """The sentences about a summary.

    Returns:
        Sentences, the most important first.
    """
    sentences = []
    ranked = [each for each in summary.optimizers if each.best is not None]
    if not ranked:
        sentences.append("No optimizer finished at any learning rate, so nothing can be compared.")
    else:
        sentences += _undecided(ranked, summary)
        sentences.append(_leader(ranked[0], summary))
        sentences += _comparison(ranked, summary)
        sentences += method.open_questions(summary)
        sentences += method.noise(summary)
        sentences += _selection(ranked, summary)
        sentences += method.times_to_target(ranked, summary)
        sentences += _widths(ranked, summary)
        sentences += method.edges(ranked, summary)
        sentences += method.search(ranked, summary)
        sentences += method.schedules(summary)
    sentences += _diverged(summary)
    for label, message in summary.failures.items():
        sentences.append(f"{label} could not be trained: {message}.")
    if summary.done < summary.planned:
        sentences.append(
            f"The run is not complete: {summary.done} of {summary.planned} trials are done."
        )
    return sentences


def _leader(leader: OptimizerSummary, summary: Summary) -> str:
    best = leader.best
    assert best is not None
    high_or_low = "highest" if summary.higher_is_better else "lowest"
    text = (
        f"{leader.label} at {setting_text(best.setting)} has the {high_or_low} mean "
        f"{summary.metric}, {number(best.mean)}"
    )
    if best.low is not None:
        interval = f"95 % interval {number(best.low)} to {number(best.high)}"
        return f"{text} ({interval}, {_seeds(best, summary)})."
    if best.seeds == 1:
        return f"{text} (one seed, so no interval can be given)."
    return f"{text} (the same for all {_seeds(best, summary)}, so no interval can be given)."


def _undecided(ranked: list[OptimizerSummary], summary: Summary) -> list[str]:
    """Which optimizers cannot be told apart from the leader: then any of them is an answer."""
    best = ranked[0].best
    assert best is not None
    stable = {each.label for each in ranked if each.best is not None and not each.best.diverged}
    alike = [d.other for d in summary.differences if not d.is_shown and d.other in stable]
    if not alike or best.seeds < 2:
        return []
    names = [ranked[0].label, *alike]
    text = f"Between {join(names)}, no difference can be shown with {_seeds(best, summary)}"
    simplest = "; Adam is the simplest" if "Adam" in names else ""
    return [f"{text}: choose any of them, or run more seeds{simplest}."]


def _comparison(ranked: list[OptimizerSummary], summary: Summary) -> list[str]:
    if not summary.differences:
        return []
    best = ranked[0].best
    assert best is not None
    shown = [each for each in summary.differences if each.is_shown]
    sentences = []
    if shown:
        gaps = join([f"{each.other} (by {number(abs(each.difference))})" for each in shown])
        at_edge = [each for each in ranked if each.is_at_edge and len(each.points) > 1]
        what = "setting" if best.others else "learning rate"
        own = "" if at_edge else f", each at its own best {what}"
        sentences.append(f"{ranked[0].label} is better than {gaps}{own}.")
    if best.seeds < 2 and len(shown) < len(summary.differences):
        sentences.append(
            "With one seed nothing can be said about whether the others are worse; run more seeds."
        )
    return sentences


def _selection(ranked: list[OptimizerSummary], summary: Summary) -> list[str]:
    if summary.is_confirmed or all(len(each.points) < 2 for each in ranked):
        return []
    return [
        "These results are of the seeds that chose the learning rates, and so too good, their "
        "intervals too narrow; `--fresh-seeds` trains the chosen ones again."
    ]


def _widths(ranked: list[OptimizerSummary], summary: Summary) -> list[str]:
    # Of one learning rate there is no range; another optimizer may have had several.
    wide = [each for each in ranked if each.width is not None and len(each.points) > 1]
    if not wide or summary.bound is None or summary.method.lengths:
        return []
    wide.sort(key=lambda each: each.width.factor if each.width else 0, reverse=True)
    widest = wide[0].width
    assert widest is not None
    reach = "at least" if summary.higher_is_better else "at most"
    text = (
        f"Learning rates count as good if the mean {summary.metric} is {reach} "
        f"{number(summary.bound)}. "
    )
    points = wide[0].points
    spacing = max(b.learning_rate / a.learning_rate for a, b in itertools.pairwise(points))
    # The ends of a range are interpolated; smaller differences are not reliable.
    near = [
        each.label
        for each in wide[1:]
        if each.width is not None and each.width.factor * spacing > widest.factor
    ]
    text += f"The widest range of good ones is {wide[0].label}'s, {factor_text(widest)}"
    if near:
        text += f"; {join(near)} {'is' if len(near) == 1 else 'are'} too close to tell apart"
    narrow = [
        f"{each.label}'s, {factor_text(each.width)}"
        for each in wide[1:]
        if each.width is not None and each.label not in near
    ]
    if narrow:
        text += f"; narrower: {join(narrow)}"
    none = [each.label for each in ranked if each.width is None]
    if none:
        text += f"; {join(none)} {'has' if len(none) == 1 else 'have'} no good one"
    return [
        f"{text}. These ranges have no interval; neighbouring learning rates differ by a "
        f"factor of up to {spacing:.2g}."
    ]


def _diverged(summary: Summary) -> list[str]:
    counts = [
        f"{each.diverged} of {each.trials} with {each.label}"
        for each in summary.optimizers
        if each.diverged
    ]
    return [f"Runs that diverged: {join(counts)}."] if counts else []


def _seeds(point: Point, summary: Summary) -> str:
    fresh = "fresh " if summary.is_confirmed else ""
    return f"{point.seeds} {fresh}seed{'s' if point.seeds != 1 else ''}"
