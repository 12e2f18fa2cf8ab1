"""Handwritten digits over a wide range of learning rates."""

from __future__ import annotations

import math
import statistics
from typing import Any

from evidence import contests
from evidence.claims import Claim, Results
from evidence.comparison import Comparison, Trials
from evidence.contests import Unit
from evidence.experiment import Experiment, Options, Picture
from evidence.rectification import mean_factor, scaled_adam
from evidence.showing import draw_parts, results_table, scheduled_table

SHORT, LONG = 400, 1600
NEAR_BEST = 0.01
"""Accuracy below the best of all that still counts as good."""
POINTS = Unit("points of accuracy", scale=100, near=1)
MIDDLE = (1e-3, 3.162e-3, 1e-2, 3.162e-2, 1e-1)


def run(options: Options) -> Results:
    """Run the three comparisons, or go on with them."""
    task = "digits-cnn" if options.full else "digits"
    suffix = "-full" if options.full else ""
    everyone = ("adam", scaled_adam(SHORT), "adam+warmup(0.1)", "radam", "nadam", "keras.nadam")
    constant = Comparison(
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
    parts = {
        "constant": constant,
        "long": long,
        "scheduled": contests.scheduled(constant, "1e-4:1:16", seeds=5),
    }
    return {part: comparison.run(options) for part, comparison in parts.items()}


def trials(results: Results, part: str = "constant") -> Trials:
    """The trials of a part; one that diverged gets nothing right."""
    return Trials(results[part], failed=0.0)


def good_ranges(table: Trials, optimizer: str) -> list[tuple[float, float]]:
    """By seed, the learning rates that come near the best mean of all optimizers."""
    bests = [statistics.fmean(table.at(x, table.best_rate(x))) for x in table.optimizers]
    return table.good_range(optimizer, max(bests) - NEAR_BEST)


def widening(results: Results, one: str, other: str, part: str = "constant") -> list[float]:
    """By seed, how often the range of `one` is twice as wide as that of `other`, as log2."""
    table = trials(results, part)
    widths = [
        [math.log2(high / low) for low, high in good_ranges(table, optimizer)]
        for optimizer in (one, other)
    ]
    return [a - b for a, b in zip(*widths, strict=True)]


def mean_lead(results: Results, one: str, other: str, rates: tuple[float, ...]) -> list[float]:
    """By seed, the mean lead in accuracy over the given learning rates, in points."""
    table = trials(results)
    leads = [table.advantage(table.at(one, rate), table.at(other, rate)) for rate in rates]
    return [100 * statistics.fmean(each) for each in zip(*leads, strict=True)]


def control(results: Results) -> str:
    """The label of Adam scaled by RAdam's mean factor."""
    return f"Adam+scale({results['constant']['facts']['mean_rectification']:g})"


CLAIMS = (
    Claim(
        "radam-wider",
        "RAdam paper",
        "RAdam is less sensitive to the learning rate than Adam (digits)",
        "width of RAdam's range of good learning rates over Adam's, in doublings",
        (0, math.inf),
        lambda r: widening(r, "RectifiedAdam", "Adam"),
        lambda r: widening(r, "RectifiedAdam", "Adam", "scheduled"),
    ),
    Claim(
        "radam-is-shift",
        "trials",
        "From 1e-3 to 1e-1 RAdam is Adam with shorter steps (digits)",
        "mean lead of RAdam over Adam with steps as long on average, points of accuracy",
        (-1, 1),
        lambda r: mean_lead(r, "RectifiedAdam", control(r), MIDDLE),
    ),
    Claim(
        "lookahead-wider-short",
        "Lookahead paper",
        "In a short run, Lookahead makes Adam less sensitive to the learning rate (digits)",
        "width of Lookahead(Adam)'s range of good learning rates over Adam's, in doublings",
        (0, math.inf),
        lambda r: widening(r, "Lookahead(Adam)", "Adam"),
        lambda r: widening(r, "Lookahead(Adam)", "Adam", "scheduled"),
    ),
    Claim(
        "lookahead-wider-long",
        "Lookahead paper",
        "In a run four times as long, Lookahead makes Adam less sensitive, too (digits)",
        "width of Lookahead(Adam)'s range of good learning rates over Adam's, in doublings",
        (0, math.inf),
        lambda r: widening(r, "Lookahead(Adam)", "Adam", "long"),
    ),
    Claim(
        "ranger-wider-short",
        "Lookahead paper",
        "In a short run, Lookahead makes RAdam less sensitive to the learning rate (digits)",
        "width of Ranger's range of good learning rates over RAdam's, in doublings",
        (0, math.inf),
        lambda r: widening(r, "Ranger", "RectifiedAdam"),
        lambda r: widening(r, "Ranger", "RectifiedAdam", "scheduled"),
    ),
    *contests.claims("digits-", "digits", POINTS, trials),
    Claim(
        "digits-keras-nadam-same",
        "trials",
        "At the same learning rates, Keras 3's Nadam ends where tf.keras 2's does (digits)",
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
    """Accuracies by learning rate, and those of the fresh seeds."""
    lines = []
    for part in ("constant", "long"):
        found = results[part]
        if "trials" not in found:
            lines += [f"The runs of this part ({part}): **not run**.", ""]
            continue
        seeds = len({trial["seed"] for trial in found["trials"]})
        lines += [
            f"Validation accuracy in percent after {found['steps']:,} steps at constant learning "
            f"rates, {seeds} seeds:",
            "",
            *results_table(trials(results, part), digits=1, scale=100),
            "",
        ]
    return [*lines, *scheduled_table(results, trials, "Validation accuracy in percent", 2, 100)]


def draw(axes: tuple[Any, ...], results: Results) -> None:
    """Accuracy over the learning rate."""
    shown = {
        "constant": ("Adam", control(results), "Lookahead(Adam)", "RectifiedAdam", "Ranger"),
        "scheduled": ("Adam", "Lookahead(Adam)", "RectifiedAdam", "Ranger"),
    }
    draw_parts(axes, trials, results, scale=100, shown=shown)
    for each in axes:
        each.set(ylabel="validation accuracy, %", ylim=(80, 100))


EXPERIMENT = Experiment(
    name="digits",
    title="Handwritten digits over a wide range of learning rates",
    about="The task `digits`: 8x8 pixels, two hidden layers. A learning rate is a good one if the "
    "accuracy is within one point of the best mean of all optimizers in the same comparison; how "
    "wide the range of good ones is follows from the seeds of the search, with a schedule too. "
    "One image of the 500 is 0.2 points.",
    run=run,
    claims=CLAIMS,
    table=table,
    picture=Picture(
        "Accuracy over the learning rate: constant, and with warmup and decay", 2, draw
    ),
)
