"""A post-norm transformer without a warmup."""

from __future__ import annotations

import math
from typing import Any

from evidence import tasks
from evidence.claims import Claim, Results
from evidence.comparison import Comparison, Trials
from evidence.experiment import Experiment, Options, Picture
from evidence.rectification import mean_factor, scaled_adam
from evidence.showing import draw_losses, losses_table
from surefoot.compare.trials.tasks import text

STALLED = 0.1
"""Nats below the guessing loss: a run that gains no more has learned nothing but frequencies."""
TRAINS = 0.3
"""Nats below the guessing loss: a run that gains more has learned what follows what."""
WARMUP = "Adam+warmup(0.1)"
HIGH = (8e-3, 1.6e-2)


def run(options: Options) -> Results:
    """Run the comparison, or go on with it."""
    steps = 500 if options.full else 300
    control = scaled_adam(steps)
    if options.full:
        everyone = ("adam", "adam+warmup(0.1)", control, "radam", "nadam", "keras.nadam", "ranger")
        sweeps: tuple[Any, ...] = (((*everyone, "lookahead(adam)"), "5e-4:3.2e-2:7"),)
    else:
        # Each around where it is best, and where Adam stalls.
        sweeps = (
            (("adam", "nadam"), "1e-3,2e-3,8e-3,1.6e-2"),
            (("adam",), "4e-3"),
            (("adam+warmup(0.1)",), "2e-3,4e-3,8e-3"),
            (("radam",), "4e-3,8e-3,1.6e-2,3.2e-2"),
            (("ranger",), "8e-3,1.6e-2,3.2e-2"),
            ((control,), "8e-3,1.6e-2"),
            (("keras.nadam",), "2e-3"),
        )
    return Comparison(
        name="post-norm-full" if options.full else "post-norm",
        task="text" if options.full else "evidence.tasks:post_norm_small",
        steps=steps,
        sweeps=sweeps,
        facts=lambda: {
            "guessing_loss": tasks.guessing_loss(
                text.transformer() if options.full else tasks.post_norm_small()
            ),
            "mean_rectification": mean_factor(steps),
        },
    ).run(options)


def trials(results: Results) -> Trials:
    """The trials; one that diverged has learned no more than one that guesses."""
    return Trials(results, failed=results["facts"]["guessing_loss"])


def control(results: Results) -> str:
    """The label of Adam scaled by RAdam's mean factor."""
    return f"Adam+scale({results['facts']['mean_rectification']:g})"


def gain(results: Results, optimizer: str, rates: tuple[float, ...], choose: Any) -> list[float]:
    """By seed, nats below the guessing loss: the most (`max`) or the least (`min`) over rates."""
    table, guessing = trials(results), results["facts"]["guessing_loss"]
    by_rate = [[guessing - loss for loss in table.at(optimizer, rate)] for rate in rates]
    return [choose(each) for each in zip(*by_rate, strict=True)]


def lead_of_best(results: Results, one: str, other: str) -> list[float]:
    """By seed, by how much the loss of `one` is lower, each at its best learning rate."""
    table = trials(results)
    return table.advantage(table.best(one), table.best(other))


def lead_at(results: Results, one: str, other: str, rate: float) -> list[float]:
    """By seed, by how much the loss of `one` is lower at the same learning rate."""
    table = trials(results)
    return table.advantage(table.at(one, rate), table.at(other, rate))


def share_of_step_size(results: Results) -> list[float]:
    """By seed, how much of RAdam's shift of the highest rate that trains is its step size.

    Raises:
        KeyError: If the highest rate that trains may lie beyond those that were tried.
    """
    table = trials(results)
    bound = results["facts"]["guessing_loss"] - TRAINS
    ends = []
    for optimizer in ("Adam", "RectifiedAdam"):
        highs = [high for _, high in table.good_range(optimizer, bound)]
        if max(highs) > 0.999 * table.rates(optimizer)[-1]:
            raise KeyError(optimizer)
        ends.append([math.log(high) for high in highs])
    scaling = -math.log(results["facts"]["mean_rectification"])
    return [scaling / (b - a) for a, b in zip(*ends, strict=True)]


def lead_over_control(results: Results, rate: float) -> list[float]:
    """By seed, by how much RAdam's loss is lower than that of Adam with steps as long."""
    return lead_at(results, "RectifiedAdam", control(results), rate)


CLAIMS = (
    Claim(
        "adam-stalls",
        "RAdam paper",
        "Without a warmup, Adam fails to train a post-norm transformer at high learning rates",
        "most that Adam gains on guessing, learning rates 8e-3 and 1.6e-2, nats",
        (-math.inf, STALLED),
        lambda r: gain(r, "Adam", HIGH, max),
    ),
    Claim(
        "nadam-stalls",
        "trials",
        "So does Nadam",
        "what Nadam gains on guessing, learning rate 8e-3, nats",
        (-math.inf, STALLED),
        lambda r: gain(r, "Nadam", (8e-3,), max),
    ),
    Claim(
        "radam-trains",
        "RAdam paper",
        "RAdam trains without a warmup where Adam fails",
        "least that RAdam gains on guessing, learning rates 8e-3 and 1.6e-2, nats",
        (TRAINS, math.inf),
        lambda r: gain(r, "RectifiedAdam", HIGH, min),
    ),
    Claim(
        "ranger-trains",
        "trials",
        "Ranger trains at learning rates twice as high",
        "least that Ranger gains on guessing, learning rates 1.6e-2 and 3.2e-2, nats",
        (TRAINS, math.inf),
        lambda r: gain(r, "Ranger", (1.6e-2, 3.2e-2), min),
    ),
    Claim(
        "radam-not-just-shorter",
        "RAdam paper",
        "What helps RAdam is the rectified variance, not that its steps are shorter",
        "lead of RAdam over Adam with steps as long on average, learning rate 8e-3, nats",
        (0.05, math.inf),
        lambda r: lead_over_control(r, 8e-3),
    ),
    Claim(
        "radam-not-just-shorter-high",
        "RAdam paper",
        "The same at twice that learning rate",
        "lead of RAdam over Adam with steps as long on average, learning rate 1.6e-2, nats",
        (0.05, math.inf),
        lambda r: lead_over_control(r, 1.6e-2),
    ),
    Claim(
        "radam-mostly-shorter",
        "trials",
        "Most of RAdam's shift to higher learning rates is its shorter average step",
        "share of the shift, in the logarithm, that scaling alone accounts for",
        (0.5, math.inf),
        share_of_step_size,
    ),
    Claim(
        "radam-replaces-warmup",
        "RAdam paper",
        "RAdam does as well as Adam with a warmup",
        "lead of RAdam over Adam with a warmup of a tenth, both at their best, nats",
        (-0.03, math.inf),
        lambda r: lead_of_best(r, "RectifiedAdam", WARMUP),
    ),
    Claim(
        "radam-beats-adam",
        "RAdam paper",
        "RAdam ends better than Adam without a warmup",
        "lead of RAdam over Adam, both at their best, nats",
        (0, math.inf),
        lambda r: lead_of_best(r, "RectifiedAdam", "Adam"),
    ),
    Claim(
        "nadam-beats-adam",
        "Nadam paper",
        "Nadam ends better than Adam",
        "lead of Nadam over Adam, both at their best, nats",
        (0, math.inf),
        lambda r: lead_of_best(r, "Nadam", "Adam"),
    ),
    Claim(
        "ranger-beats-radam",
        "Lookahead paper",
        "Lookahead ends better than the optimizer inside it",
        "lead of Ranger over RAdam, both at their best, nats",
        (0, math.inf),
        lambda r: lead_of_best(r, "Ranger", "RectifiedAdam"),
    ),
    Claim(
        "keras-nadam-same",
        "trials",
        "Keras 3's Nadam ends where tf.keras 2's does",
        "lead of Nadam over Keras 3's, learning rate 2e-3, nats",
        (-0.02, 0.02),
        lambda r: lead_at(r, "Nadam", "keras.Nadam", 2e-3),
    ),
)


def table(results: Results) -> list[str]:
    """Losses by learning rate."""
    facts = results["facts"]
    first, *rest = losses_table(trials(results), facts["guessing_loss"])
    return [f"{first} RAdam's mean factor over the run is {facts['mean_rectification']:g}.", *rest]


def draw(axes: tuple[Any, ...], results: Results) -> None:
    """Loss over the learning rate."""
    guessing_loss = results["facts"]["guessing_loss"]
    draw_losses(axes[0], trials(results), guessing_loss, "Post-norm transformer, no warmup")


EXPERIMENT = Experiment(
    name="post-norm",
    title="A post-norm transformer without a warmup",
    about="The task `text` of `surefoot compare`: a transformer of four layers that normalizes "
    "after each block learns to predict the next character of Python's own documentation, at a "
    "constant learning rate and $\\beta_2 = 0.999$. Two controls tell what RAdam's rectification "
    "adds: Adam with a linear warmup over the first tenth of the run, and Adam at the learning "
    "rate times the mean of RAdam's factor, whose steps are as long as RAdam's on average but "
    "not shorter at the start.",
    run=run,
    claims=CLAIMS,
    table=table,
    picture=Picture("Loss after training over the learning rate, by optimizer", 1, draw),
)
