"""The same transformer, normalized before each block."""

from __future__ import annotations

import math
from typing import Any

from evidence import tasks
from evidence.claims import Claim, Results
from evidence.comparison import Comparison
from evidence.experiment import Experiment, Options, Picture
from evidence.experiments.post_norm import TRAINS, gain, lead_of_best, trials
from evidence.showing import draw_losses, losses_table
from surefoot.compare.trials.tasks import text

OPTIMIZERS = ("Adam", "RectifiedAdam", "Nadam", "Ranger")
HIGH = (1.6e-2,)


def run(options: Options) -> Results:
    """Run the comparison, or go on with it."""
    return Comparison(
        name="pre-norm-full" if options.full else "pre-norm",
        task="text-pre-norm" if options.full else "evidence.tasks:pre_norm_small",
        steps=500 if options.full else 150,
        sweeps=(
            (
                ("adam", "radam", "nadam", "ranger"),
                "2e-3,4e-3,8e-3,1.6e-2" if options.full else "4e-3,1.6e-2",
            ),
        ),
        facts=lambda: {
            "guessing_loss": tasks.guessing_loss(
                text.transformer_normalizing_first() if options.full else tasks.pre_norm_small()
            )
        },
    ).run(options)


def least_gain(results: Results) -> list[float]:
    """By seed, the least gain on guessing of any optimizer at the highest learning rate."""
    gains = [gain(results, each, HIGH, min) for each in OPTIMIZERS]
    return [min(each) for each in zip(*gains, strict=True)]


CLAIMS = (
    Claim(
        "pre-norm-trains",
        "trials",
        "Normalized before each block, the transformer trains with all of them",
        "least that any gains on guessing, learning rate 1.6e-2, nats",
        (TRAINS, math.inf),
        least_gain,
    ),
    Claim(
        "pre-norm-radam-gains",
        "RAdam paper",
        "RAdam ends better than Adam there too",
        "lead of RAdam over Adam, both at their best, nats",
        (0, math.inf),
        lambda r: lead_of_best(r, "RectifiedAdam", "Adam"),
    ),
)


def table(results: Results) -> list[str]:
    """Losses by learning rate."""
    return losses_table(trials(results), results["facts"]["guessing_loss"])


def draw(axes: tuple[Any, ...], results: Results) -> None:
    """Loss over the learning rate."""
    guessing_loss = results["facts"]["guessing_loss"]
    draw_losses(axes[0], trials(results), guessing_loss, "Pre-norm transformer, no warmup")


EXPERIMENT = Experiment(
    name="pre-norm",
    title="A pre-norm transformer without a warmup",
    about="The same text and the same layers, but normalized before each block (task "
    "`text-pre-norm`), as most transformers are built today.",
    run=run,
    claims=CLAIMS,
    table=table,
    picture=Picture("Loss after training over the learning rate, by optimizer", 1, draw),
)
