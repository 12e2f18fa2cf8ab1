"""Handwritten digits over a wide range of learning rates."""

from __future__ import annotations

import math
import statistics
from typing import Any

from evidence.claims import Claim, Results
from evidence.comparison import Comparison, Trials
from evidence.experiment import Experiment, Options, Picture
from evidence.rectification import mean_factor, scaled_adam
from evidence.showing import draw_results, results_table

SHORT, LONG = 400, 1600
NEAR_BEST = 0.01
"""Accuracy below the best of all that still counts as good."""
LONG_ONES = ("Adam", "Lookahead(Adam)")
MIDDLE = (1e-3, 3.162e-3, 1e-2, 3.162e-2, 1e-1)


def run(options: Options) -> Results:
    """Run both budgets, or go on with them."""
    task = "digits-cnn" if options.full else "digits"
    suffix = "-full" if options.full else ""
    everyone = ("adam", scaled_adam(SHORT), "radam", "nadam", "keras.nadam")
    short = Comparison(
        name=f"digits{suffix}",
        task=task,
        steps=SHORT,
        seeds=5 if options.full else 3,
        sweeps=(
            ((*everyone, "lookahead(adam)", "ranger"), "1e-4:1:9"),
            (("nadam(schedule_decay=1.0)",), "1e-3"),
        ),
        facts=lambda: {"mean_rectification": mean_factor(SHORT)},
    )
    long = Comparison(
        name=f"digits-long{suffix}",
        task=task,
        steps=LONG,
        seeds=5 if options.full else 3,
        sweeps=((("adam", "lookahead(adam)"), "1e-4:1:9"),),
    )
    return {"short": short.run(options), "long": long.run(options)}


def trials(results: Results, budget: str = "short") -> Trials:
    """The trials of one budget; one that diverged gets nothing right."""
    return Trials(results[budget], failed=0.0)


def good_ranges(results: Results, optimizer: str, budget: str) -> list[tuple[float, float]]:
    """By seed, the learning rates that come near the best mean of all optimizers."""
    table = trials(results, budget)
    bests = [statistics.fmean(table.best(each)) for each in table.optimizers]
    return table.good_range(optimizer, max(bests) - NEAR_BEST)


def widening(results: Results, one: str, other: str, budget: str = "short") -> list[float]:
    """By seed, how often the range of `one` is twice as wide as that of `other`, as log2."""

    def widths(optimizer: str) -> list[float]:
        return [math.log2(high / low) for low, high in good_ranges(results, optimizer, budget)]

    return [a - b for a, b in zip(widths(one), widths(other), strict=True)]


def lead_of_best(results: Results, one: str, other: str) -> list[float]:
    """By seed, the lead in accuracy, each at its best learning rate, in points."""
    table = trials(results)
    return [100 * each for each in table.advantage(table.best(one), table.best(other))]


def mean_lead(results: Results, one: str, other: str, rates: tuple[float, ...]) -> list[float]:
    """By seed, the mean lead in accuracy over the given learning rates, in points."""
    table = trials(results)
    leads = [table.advantage(table.at(one, rate), table.at(other, rate)) for rate in rates]
    return [100 * statistics.fmean(each) for each in zip(*leads, strict=True)]


def control(results: Results) -> str:
    """The label of Adam scaled by RAdam's mean factor."""
    return f"Adam+scale({results['short']['facts']['mean_rectification']:g})"


CLAIMS = (
    Claim(
        "radam-wider",
        "RAdam paper",
        "RAdam is less sensitive to the learning rate than Adam",
        "width of RAdam's range of good learning rates over Adam's, in doublings",
        (0, math.inf),
        lambda r: widening(r, "RectifiedAdam", "Adam"),
    ),
    Claim(
        "radam-is-shift",
        "trials",
        "From 1e-3 to 1e-1 RAdam is Adam with shorter steps",
        "mean lead of RAdam over Adam with steps as long on average, points of accuracy",
        (-1, 1),
        lambda r: mean_lead(r, "RectifiedAdam", control(r), MIDDLE),
    ),
    Claim(
        "lookahead-wider-short",
        "Lookahead paper",
        "Lookahead makes Adam less sensitive to the learning rate, in a short run",
        "width of Lookahead(Adam)'s range of good learning rates over Adam's, in doublings",
        (0, math.inf),
        lambda r: widening(r, "Lookahead(Adam)", "Adam"),
    ),
    Claim(
        "lookahead-wider-long",
        "Lookahead paper",
        "The same in a run four times as long",
        "width of Lookahead(Adam)'s range of good learning rates over Adam's, in doublings",
        (0, math.inf),
        lambda r: widening(r, "Lookahead(Adam)", "Adam", "long"),
    ),
    Claim(
        "ranger-wider-short",
        "Lookahead paper",
        "Lookahead makes RAdam less sensitive to the learning rate, in a short run",
        "width of Ranger's range of good learning rates over RAdam's, in doublings",
        (0, math.inf),
        lambda r: widening(r, "Ranger", "RectifiedAdam"),
    ),
    Claim(
        "digits-radam-beats-adam",
        "RAdam paper",
        "RAdam ends better than Adam",
        "lead of RAdam over Adam, both at their best, points of accuracy",
        (0, math.inf),
        lambda r: lead_of_best(r, "RectifiedAdam", "Adam"),
    ),
    Claim(
        "digits-nadam-beats-adam",
        "Nadam paper",
        "Nadam ends better than Adam",
        "lead of Nadam over Adam, both at their best, points of accuracy",
        (0, math.inf),
        lambda r: lead_of_best(r, "Nadam", "Adam"),
    ),
    Claim(
        "digits-keras-nadam-same",
        "trials",
        "Keras 3's Nadam ends where tf.keras 2's does",
        "mean lead of Nadam over Keras 3's, learning rates 1e-3 to 1e-1, points of accuracy",
        (-1, 1),
        lambda r: mean_lead(r, "Nadam", "keras.Nadam", MIDDLE),
    ),
    Claim(
        "schedule-decay-is-keras",
        "documentation",
        "With `schedule_decay=1.0` Nadam is Keras 3's",
        "its lead over Keras 3's, learning rate 1e-3, points of accuracy",
        (-0.2, 0.2),
        lambda r: mean_lead(r, "Nadam(schedule_decay=1.0)", "keras.Nadam", (1e-3,)),
    ),
)


def table(results: Results) -> list[str]:
    """Accuracies by learning rate, for both budgets."""
    lines = []
    for budget in ("short", "long"):
        found = results[budget]
        if "trials" not in found:
            lines += [f"The {budget} runs: **not run**.", ""]
            continue
        seeds = len({trial["seed"] for trial in found["trials"]})
        lines += [
            f"Validation accuracy in percent after {found['steps']:,} steps, {seeds} seeds:",
            "",
            *results_table(trials(results, budget), digits=1, scale=100),
            "",
        ]
    return lines[:-1]


def draw(axes: tuple[Any, ...], results: Results) -> None:
    """Accuracy over the learning rate, short and long runs side by side."""
    order = (*LONG_ONES, "RectifiedAdam", "Ranger")
    for each, budget in zip(axes, ("short", "long"), strict=True):
        if "trials" not in results[budget]:
            each.set_title("not run")
            each.axis("off")
            continue
        shown = (*order, control(results)) if budget == "short" else LONG_ONES
        draw_results(each, trials(results, budget), 100, shown, named=budget == "short")
        each.set(
            title=f"{results[budget]['steps']:,} steps",
            ylabel="validation accuracy, %",
            ylim=(80, 100),
        )


EXPERIMENT = Experiment(
    name="digits",
    title="Handwritten digits over a wide range of learning rates",
    about="The task `digits`: 8x8 pixels, two hidden layers, a constant learning rate. A learning "
    "rate is a good one if the accuracy is within one point of the best mean of all optimizers "
    "at that budget. One image of the 500 is 0.2 points.",
    run=run,
    claims=CLAIMS,
    table=table,
    picture=Picture("Accuracy over the learning rate, after short and long training", 2, draw),
)
