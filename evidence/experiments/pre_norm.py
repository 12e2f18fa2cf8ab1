"""The same transformer, normalized before each block."""

from __future__ import annotations

import math
from typing import Any

from evidence import contests, tasks
from evidence.claims import Claim, Results
from evidence.comparison import Comparison
from evidence.experiment import Experiment, Options, Picture
from evidence.experiments.post_norm import NATS, TRAINS, gain, trials
from evidence.showing import draw_losses, losses_tables
from surefoot.compare.trials.tasks import text

OPTIMIZERS = ("Adam", "RectifiedAdam", "Nadam", "Ranger")
HIGH = (1.6e-2,)


def run(options: Options) -> Results:
    """Run both comparisons, or go on with them."""
    everyone = ("adam", "radam", "nadam", "keras.nadam", "lookahead(adam)", "ranger")
    if options.full:
        sweeps: tuple[Any, ...] = (((*everyone, "adam+warmup(0.1)"), "1e-3:3.2e-2:6"),)
    else:
        # Each around where it is best, and at the learning rate of the first claim.
        sweeps = (
            (
                ("adam", "adam+warmup(0.1)", "keras.nadam", "lookahead(adam)"),
                "2e-3,4e-3,8e-3,1.6e-2",
            ),
            (("nadam",), "1e-3,2e-3,4e-3,8e-3,1.6e-2"),
            (("radam",), "2e-3,4e-3,8e-3,1.6e-2,3.2e-2"),
            (("ranger",), "2e-3,4e-3,8e-3,1.6e-2,3.2e-2,6.4e-2,1.28e-1,2.56e-1"),
        )
    constant = Comparison(
        name="pre-norm-full" if options.full else "pre-norm",
        task="text-pre-norm" if options.full else "evidence.tasks:pre_norm_small",
        steps=500 if options.full else 150,
        sweeps=sweeps,
        facts=lambda: {
            "guessing_loss": tasks.guessing_loss(
                text.transformer_normalizing_first() if options.full else tasks.pre_norm_small()
            )
        },
    )
    # Whether a warmup is needed is a question about the other transformer, so it is not left out.
    compared = contests.EVERYONE if options.full else everyone
    scheduled = contests.scheduled(constant, "1e-3:3.2e-2:6", seeds=2, optimizers=compared)
    return {"constant": constant.run(options), "scheduled": scheduled.run(options)}


def least_gain(results: Results) -> list[float]:
    """By seed, the least gain on guessing of any optimizer at the highest learning rate."""
    gains = [gain(results, each, HIGH, min) for each in OPTIMIZERS]
    return [min(each) for each in zip(*gains, strict=True)]


CLAIMS = (
    Claim(
        "pre-norm-trains",
        "trials",
        "Adam, RAdam, Nadam and Ranger all train at a high learning rate (pre-norm text)",
        "least that any gains on guessing, learning rate 1.6e-2, nats",
        (TRAINS, math.inf),
        least_gain,
    ),
    *contests.claims("pre-norm-", "pre-norm text", NATS, trials),
)


def table(results: Results) -> list[str]:
    """Losses by learning rate."""
    return losses_tables(trials, results)


def draw(axes: tuple[Any, ...], results: Results) -> None:
    """Loss over the learning rate."""
    draw_losses(axes, trials, results)


EXPERIMENT = Experiment(
    name="pre-norm",
    title="A pre-norm transformer",
    about="The same text and the same layers, but normalized before each block (task "
    "`text-pre-norm`), as most transformers are built today, and half as many steps. A decay "
    "without the warmup was not tried here.",
    run=run,
    claims=CLAIMS,
    table=table,
    picture=Picture("Loss over the learning rate: constant, and with warmup and decay", 2, draw),
)
