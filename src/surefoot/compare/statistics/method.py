"""What the verdict says of how a comparison was made, where that bears on the answer."""

from surefoot.compare.formatting import join, number, rate
from surefoot.compare.search.schedule import WARMUP
from surefoot.compare.statistics.differences import MOST_SEEDS
from surefoot.compare.statistics.summary import OptimizerSummary, Summary

_SEARCHES = {"qmc": "quasi-random", "tpe": "chosen by TPE", "grid": "on a grid"}


def in_short(summary: Summary) -> str:
    """How the comparison was made, in a line for below its table."""
    method = summary.method
    counts = sorted({each.settings for each in summary.optimizers} or {0})
    settings = " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1]))))
    parts = [
        f"{settings} settings of each optimizer, {_SEARCHES[method.search]}",
        f"schedule {method.schedule}",
    ]
    parts += [f"halving by {method.halving}"] if method.halving else []
    parts += [f"budget {method.budget}"] if method.budget else []
    if summary.target is not None:
        parts.append(f"target {number(summary.target)}{_origin(summary)}")
    if summary.validation_noise is not None:
        parts.append(f"noise of the validation data ±{number(summary.validation_noise, 2)}")
    return "; ".join(parts)


def _origin(summary: Summary) -> str:
    """Where the target comes from, if that is the search."""
    if summary.target_of:
        return f" (the best of {summary.target_of} in the search)"
    return "" if summary.is_target_given else " (where learning rates are good)"


def open_questions(summary: Summary) -> list[str]:
    """How many more seeds would tell apart what cannot be told apart."""
    tested = [each for each in summary.differences if each.p_value is not None]
    open_ones = [each for each in tested if not each.is_shown]
    if not open_ones:
        return []
    needed = [
        f"{each.more_seeds} for {each.other} (a difference of {number(abs(each.difference), 2)})"
        for each in open_ones
        if each.more_seeds is not None
    ]
    beyond = [each.other for each in open_ones if each.more_seeds is None]
    sentences = []
    if needed:
        sentences.append(
            "If the differences seen are the true ones, so many more seeds would probably (80 %) "
            f"show them: {join(needed)}."
        )
    if beyond:
        what = "difference" if len(beyond) == 1 else "differences"
        verb, them = ("is", "it") if len(beyond) == 1 else ("are", "them")
        sentences.append(
            f"The {what} from {join(beyond)} {verb} so small that {MOST_SEEDS} more seeds would "
            f"not show {them}."
        )
    return sentences


def noise(summary: Summary) -> list[str]:
    """What the number of validation examples alone leaves open."""
    if summary.validation_noise is None:
        return []
    return [
        f"The {summary.validation_examples} examples of the validation data alone leave the "
        f"{summary.metric} uncertain by {number(summary.validation_noise, 2)} (standard error): "
        "a smaller difference may not be there on other data, however many seeds show it."
    ]


def times_to_target(ranked: list[OptimizerSummary], summary: Summary) -> list[str]:
    """When each optimizer has reached a target that somebody chose."""
    if not summary.is_target_given or summary.target is None:
        return []
    of = _origin(summary)
    reached = [each for each in ranked if each.best and each.best.steps_to_target is not None]
    reached.sort(key=lambda each: (each.best and each.best.steps_to_target) or 0)
    if not reached:
        return [f"No optimizer reaches {number(summary.target)}{of} with most of its seeds."]
    steps = [
        f"{each.label} after {each.best.steps_to_target:g} steps"
        + ("" if each.seconds_to_target is None else f" ({number(each.seconds_to_target, 2)} s)")
        for each in reached
        if each.best
    ]
    missing = [each.label for each in ranked if each not in reached]
    without = f"; {join(missing)} with fewer than half of the seeds" if missing else ""
    return [f"{number(summary.target)}{of} is reached by {join(steps)}{without}."]


def edges(ranked: list[OptimizerSummary], summary: Summary) -> list[str]:
    """Which optima lie at the edge of what was tried, and what was tried beyond the range."""
    method, sentences = summary.method, []
    if method.beyond:
        rates = join([rate(each) for each in method.beyond])
        sentences.append(
            f"A best learning rate was the lowest or highest tried, so {rates} "
            f"{'was' if len(method.beyond) == 1 else 'were'} tried as well, with each optimizer."
        )
    at_edge = [each.label for each in ranked if each.is_at_edge and each.settings > 1]
    if at_edge:
        budget = f", and the budget of {method.budget} allows no more" if method.budget else ""
        sentences.append(
            f"The best learning rate of {join(at_edge)} is at the edge of "
            f"{'what was' if method.beyond else 'the range'} tried: a better one may lie beyond "
            f"it{budget}."
        )
    others = [f"{name} of {each.label}" for each in ranked for name in each.other_edges]
    if others:
        sentences.append(
            f"The lowest or highest value tried was best of: {join(others)}. A better one may lie "
            "beyond it."
        )
    return sentences


def schedules(summary: Summary) -> list[str]:
    """How learning rates change over a run, and where an expression says otherwise."""
    method = summary.method
    sentences = []
    if method.schedule != "constant":
        sentences.append(
            f"Learning rates rise over the first {WARMUP * 100:g} % of the steps, and then fall to "
            f"zero ({method.schedule})."
        )
    if method.own_schedules and sentences:
        sentences.append(
            f"An exception: with {join(list(method.own_schedules))} the learning rate changes as "
            f"it was given."
        )
    return sentences


def search(ranked: list[OptimizerSummary], summary: Summary) -> list[str]:
    """What is unusual about how the settings were found."""
    method, sentences = summary.method, []
    counts = {each.settings for each in ranked}
    if len(counts) > 1:
        found = join([f"{each.settings} with {each.label}" for each in ranked])
        sentences.append(f"Not as many settings were tried with each optimizer: {found}.")
    halved = "The search was cut by successive halving: only the better half of an optimizer's"
    if method.halving == "seeds":
        sentences.append(f"{halved} settings went on to each further seed.")
    elif method.halving == "steps":
        lengths = join([str(length) for length in method.lengths])
        sentences.append(
            f"{halved} settings went on from runs of {lengths} steps, each with its whole "
            "schedule, to longer ones. What is best in short runs need not be in long ones."
        )
    for name, labels in method.fixed:
        sentences.append(f"{name} does not vary with {join(list(labels))}.")
    return sentences
