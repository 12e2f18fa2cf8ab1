"""A post-norm transformer without a warmup."""

from __future__ import annotations

import math
from typing import Any

from evidence import contests, tasks
from evidence.claims import Claim, Results
from evidence.comparison import Comparison, Trials
from evidence.contests import Unit
from evidence.experiment import Experiment, Options, Picture
from evidence.rectification import mean_factor, scaled_adam
from evidence.showing import draw_losses, losses_tables
from surefoot.compare.trials.tasks import text

STALLED = 0.1
"""Nats below the guessing loss: a run that gains no more has learned nothing but frequencies."""
TRAINS = 0.3
"""Nats below the guessing loss: a run that gains more has learned what follows what."""
HIGH = (8e-3, 1.6e-2)
NATS = Unit("nats", scale=1, near=0.03)


def run(options: Options) -> Results:
    """Run both comparisons, or go on with them."""
    steps = 500 if options.full else 300
    control = scaled_adam(steps)
    if options.full:
        everyone = ("adam", "adam+warmup(0.1)", control, "radam", "nadam", "keras.nadam", "ranger")
        sweeps: tuple[Any, ...] = (((*everyone, "lookahead(adam)"), "5e-4:3.2e-2:7"),)
    else:
        # Each around where it is best, and where Adam stalls.
        sweeps = (
            (("adam",), "5e-4,1e-3,2e-3,4e-3,8e-3,1.6e-2"),
            (("nadam",), "1e-3,2e-3,4e-3,8e-3,1.6e-2"),
            (("adam+warmup(0.1)", "lookahead(adam)"), "1e-3,2e-3,4e-3,8e-3"),
            ((control,), "2e-3,4e-3,8e-3,1.6e-2"),
            (("radam",), "4e-3,8e-3,1.6e-2,3.2e-2"),
            (("ranger",), "8e-3,1.6e-2,3.2e-2"),
            (("keras.nadam",), "1e-3,2e-3,4e-3"),
        )
    constant = Comparison(
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
    )
    scheduled = contests.scheduled(constant, "1e-3:3.2e-2:6", seeds=2)
    return {"constant": constant.run(options), "scheduled": scheduled.run(options)}


def trials(results: Results, part: str = "constant") -> Trials:
    """The trials of a part; one that diverged has learned no more than one that guesses."""
    return Trials(results[part], failed=results[part]["facts"]["guessing_loss"])


def control(results: Results) -> str:
    """The label of Adam scaled by RAdam's mean factor."""
    return f"Adam+scale({results['constant']['facts']['mean_rectification']:g})"


def gain(results: Results, optimizer: str, rates: tuple[float, ...], choose: Any) -> list[float]:
    """By seed, nats below the guessing loss: the most (`max`) or the least (`min`) over rates."""
    table, guessing = trials(results), results["constant"]["facts"]["guessing_loss"]
    by_rate = [[guessing - loss for loss in table.at(optimizer, rate)] for rate in rates]
    return [choose(each) for each in zip(*by_rate, strict=True)]


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
    bound = results["constant"]["facts"]["guessing_loss"] - TRAINS
    ends = []
    for optimizer in ("Adam", "RectifiedAdam"):
        highs = [high for _, high in table.good_range(optimizer, bound)]
        if max(highs) > 0.999 * table.rates(optimizer)[-1]:
            raise KeyError(optimizer)
        ends.append([math.log(high) for high in highs])
    scaling = -math.log(results["constant"]["facts"]["mean_rectification"])
    return [scaling / (b - a) for a, b in zip(*ends, strict=True)]


def lead_over_control(results: Results, rate: float) -> list[float]:
    """By seed, by how much RAdam's loss is lower than that of Adam with steps as long."""
    return lead_at(results, "RectifiedAdam", control(results), rate)


CLAIMS = (
    Claim(
        "adam-stalls",
        "RAdam paper",
        "Adam stalls at high learning rates without a warmup (post-norm text)",
        "most that Adam gains on guessing, learning rates 8e-3 and 1.6e-2, nats",
        (-math.inf, STALLED),
        lambda r: gain(r, "Adam", HIGH, max),
    ),
    Claim(
        "nadam-stalls",
        "trials",
        "Nadam stalls where Adam stalls (post-norm text)",
        "what Nadam gains on guessing, learning rate 8e-3, nats",
        (-math.inf, STALLED),
        lambda r: gain(r, "Nadam", (8e-3,), max),
    ),
    Claim(
        "radam-trains",
        "RAdam paper",
        "RAdam trains without a warmup where Adam stalls (post-norm text)",
        "least that RAdam gains on guessing, learning rates 8e-3 and 1.6e-2, nats",
        (TRAINS, math.inf),
        lambda r: gain(r, "RectifiedAdam", HIGH, min),
    ),
    Claim(
        "ranger-trains",
        "trials",
        "Ranger trains at twice the learning rates at which RAdam trains (post-norm text)",
        "least that Ranger gains on guessing, learning rates 1.6e-2 and 3.2e-2, nats",
        (TRAINS, math.inf),
        lambda r: gain(r, "Ranger", (1.6e-2, 3.2e-2), min),
    ),
    Claim(
        "radam-not-just-shorter",
        "RAdam paper",
        "What helps RAdam at 8e-3 is its rectified variance, not its shorter steps",
        "lead of RAdam over Adam with steps as long on average, learning rate 8e-3, nats",
        (0.05, math.inf),
        lambda r: lead_over_control(r, 8e-3),
    ),
    Claim(
        "radam-not-just-shorter-high",
        "RAdam paper",
        "What helps RAdam at 1.6e-2 is its rectified variance, not its shorter steps",
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
    *contests.claims("", "post-norm text", NATS, trials),
    Claim(
        "keras-nadam-same",
        "trials",
        "At one learning rate, Keras 3's Nadam ends where tf.keras 2's does (post-norm text)",
        "lead of Nadam over Keras 3's, learning rate 2e-3, nats",
        (-0.02, 0.02),
        lambda r: lead_at(r, "Nadam", "keras.Nadam", 2e-3),
    ),
)


def table(results: Results) -> list[str]:
    """Losses by learning rate."""
    factor = results["constant"]["facts"]["mean_rectification"]
    lines = losses_tables(trials, results)
    return [*lines, "", f"RAdam's mean factor over the run is {factor:g}."]


def draw(axes: tuple[Any, ...], results: Results) -> None:
    """Loss over the learning rate."""
    draw_losses(axes, trials, results)


EXPERIMENT = Experiment(
    name="post-norm",
    title="A post-norm transformer",
    about="The task `text` of `surefoot compare`: a transformer of four layers that normalizes "
    "after each block learns to predict the next character of Python's own documentation, with "
    "$\\beta_2 = 0.999$. At constant learning rates, two controls tell what RAdam's rectification "
    "adds: Adam with a linear warmup over the first tenth of the run, and Adam at the learning "
    "rate times the mean of RAdam's factor, whose steps are as long as RAdam's on average but "
    "not shorter at the start. With a decay, the warmup is 15 steps long; a longer one was not "
    "tried.",
    run=run,
    claims=CLAIMS,
    table=table,
    picture=Picture("Loss over the learning rate: constant, and with warmup and decay", 2, draw),
)
