"""Variables in bfloat16."""

from __future__ import annotations

import math
from typing import Any

from evidence.claims import Claim, Results, estimate
from evidence.comparison import Comparison, Trials
from evidence.experiment import Experiment, Options, Picture
from evidence.showing import markdown, spread
from surefoot.compare.formatting import rate as rate_text

RATE = 3e-3
OURS = ("RectifiedAdam", "Nadam", "Ranger")
KERAS = ("SGD(momentum=0.9)", "Adam", "keras.Nadam")


def run(options: Options) -> Results:
    """Run both precisions, or go on with them."""
    optimizers = ("adam", "keras.nadam", "radam", "nadam", "ranger")
    sweeps = (
        (optimizers, "1e-3,3e-3,1e-2" if options.full else f"{RATE:g}"),
        (("sgd(momentum=0.9)",), "1e-1"),
    )
    suffix = "-full" if options.full else ""
    return {
        name: Comparison(name=f"{name}{suffix}", task=task, steps=400, sweeps=sweeps).run(options)
        for name, task in (
            ("float32", "digits"),
            ("bfloat16", "evidence.tasks:digits_bfloat16"),
        )
    }


def trials(results: Results, precision: str) -> Trials:
    """The trials of one precision; one that diverged gets nothing right."""
    return Trials(results[precision], failed=0.0)


def rate_of(optimizer: str) -> float:
    """The learning rate at which both precisions are compared."""
    return 1e-1 if optimizer.startswith("SGD") else RATE


def accuracies(results: Results, precision: str, optimizer: str) -> list[float]:
    """By seed, in percent."""
    found = trials(results, precision).at(optimizer, rate_of(optimizer))
    return [100 * each for each in found]


def loss_of_points(results: Results, optimizer: str) -> list[float]:
    """By seed, points of accuracy that bfloat16 costs."""
    wide = accuracies(results, "float32", optimizer)
    narrow = accuracies(results, "bfloat16", optimizer)
    return [a - b for a, b in zip(wide, narrow, strict=True)]


def _claim_ours(optimizer: str, key: str) -> Claim:
    return Claim(
        key,
        "documentation",
        f"{optimizer} trains bfloat16 variables as well as float32 ones",
        "points of accuracy lost to bfloat16",
        (-math.inf, 2),
        lambda r: loss_of_points(r, optimizer),
    )


def _claim_keras(optimizer: str, name: str, key: str) -> Claim:
    return Claim(
        key,
        "trials",
        f"Keras 3's {name} does not train bfloat16 variables",
        "accuracy with bfloat16, percent; guessing gives 10",
        (-math.inf, 25),
        lambda r: accuracies(r, "bfloat16", optimizer),
    )


CLAIMS = (
    _claim_ours("RectifiedAdam", "bfloat16-radam"),
    _claim_ours("Nadam", "bfloat16-nadam"),
    _claim_ours("Ranger", "bfloat16-ranger"),
    _claim_keras("Adam", "Adam", "bfloat16-keras-adam"),
    _claim_keras("keras.Nadam", "Nadam", "bfloat16-keras-nadam"),
)


def table(results: Results) -> list[str]:
    """Accuracies in both precisions."""
    rows = [
        [
            f"`{label}`",
            rate_text(rate_of(label)),
            *(_cell(results, precision, label) for precision in ("float32", "bfloat16")),
        ]
        for label in (*KERAS, *OURS)
    ]
    head = ["", "learning rate", "float32", "bfloat16"]
    return ["Validation accuracy in percent:", "", *markdown(head, rows)]


def _cell(results: Results, precision: str, optimizer: str) -> str:
    try:
        values = accuracies(results, precision, optimizer)
    except KeyError:
        return "not run"
    count = trials(results, precision).diverged[optimizer, rate_of(optimizer)]
    return f"{count} of {len(values)} diverged" if count else spread(estimate(values), 1)


def draw(axes: tuple[Any, ...], results: Results) -> None:
    """Both precisions beside one another."""
    from docs.pictures import COLOURS

    labels = (*KERAS, *OURS)
    for number, precision in enumerate(("float32", "bfloat16")):
        values = [accuracies(results, precision, label) for label in labels]
        means = [sum(each) / len(each) for each in values]
        places = [place + 0.4 * number for place in range(len(labels))]
        axes[0].bar(places, means, width=0.38, label=precision, color=COLOURS[number])
    axes[0].set_xticks(
        [place + 0.2 for place in range(len(labels))],
        [label.partition("(")[0] for label in labels],
        fontsize="small",
    )
    axes[0].set(ylabel="validation accuracy, %", title="Digits, 400 steps")


EXPERIMENT = Experiment(
    name="precision",
    title="Variables in bfloat16",
    about="The task `digits` with every variable and all computation in bfloat16, and in float32. "
    "SGD tells what the model loses to bfloat16 by itself. A run that ends in NaN counts as "
    "getting nothing right.",
    run=run,
    claims=CLAIMS,
    table=table,
    picture=Picture("Accuracy in float32 and bfloat16, by optimizer", 1, draw),
)
