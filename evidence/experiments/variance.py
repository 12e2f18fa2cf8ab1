"""The variance of the adaptive learning rate against its formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from evidence.claims import Claim, Results, estimate
from evidence.experiment import Experiment, Options, Picture
from evidence.rectification import BETA_2, factors
from evidence.showing import markdown, spread

WATCHED = (6, 10, 20, 50, 100, 200, 400, 1000)
EARLY = (6, 10, 20, 50, 100)


def run(options: Options) -> Results:
    """Draw many sequences of Gaussian gradients and measure the spread of 1/sqrt(v)."""
    paths = 200_000 if options.full else 50_000
    points = []
    for seed in range(5):
        generator = np.random.default_rng(seed)
        v = np.zeros(paths)
        for step in range(1, WATCHED[-1] + 1):
            v = BETA_2 * v + (1 - BETA_2) * generator.standard_normal(paths) ** 2
            if step in WATCHED:
                adaptive = np.sqrt((1 - BETA_2**step) / v)
                points.append({"seed": seed, "step": step, "variance": float(adaptive.var())})
    return {"beta_2": BETA_2, "paths": paths, "numpy": np.__version__, "points": points}


def degrees_of_freedom(step: int) -> float:
    """The paper's rho_t."""
    rho_inf = 2 / (1 - BETA_2) - 1
    return rho_inf - 2 * step * BETA_2**step / (1 - BETA_2**step)


def exact_variance(step: int) -> float:
    """Variance of 1/sqrt(x) where x is chi-squared over its degrees of freedom, rho_t."""
    rho = degrees_of_freedom(step)
    log_mean = 0.5 * math.log(rho / 2) + math.lgamma((rho - 1) / 2) - math.lgamma(rho / 2)
    return rho / (rho - 2) - math.exp(2 * log_mean)


def first_order_variance(step: int) -> float:
    """The paper's approximation, from which it derives its factor."""
    rho = degrees_of_freedom(step)
    return rho / (2 * (rho - 2) * (rho - 4))


def simulated(results: Results, step: int) -> list[float]:
    """One variance per seed."""
    return [point["variance"] for point in results["points"] if point["step"] == step]


def deviation(results: Results, formula: Any) -> list[float]:
    """By seed, the largest of formula over simulation, or its inverse, in the first 100 steps."""
    logs = [
        [abs(math.log(formula(step) / each)) for each in simulated(results, step)] for step in EARLY
    ]
    return [math.exp(max(each)) for each in zip(*logs, strict=True)]


def rectified(results: Results, step: int) -> list[float]:
    """By seed, the variance after rectification over what it is at the last step looked at."""
    factor = factors(WATCHED[-1]) ** 2
    ends = [factor[-1] * each for each in simulated(results, WATCHED[-1])]
    return [
        float(factor[step - 1] * each / end)
        for each, end in zip(simulated(results, step), ends, strict=True)
    ]


CLAIMS = (
    Claim(
        "variance-formula",
        "RAdam paper",
        "The variance of the adaptive learning rate follows the scaled inverse chi-squared law",
        "largest factor between formula and simulation, steps 6 to 100",
        (-math.inf, 1.1),
        lambda r: deviation(r, exact_variance),
    ),
    Claim(
        "variance-approximation",
        "RAdam paper",
        "The first-order approximation that RAdam's factor is made from is close",
        "largest factor between formula and simulation, steps 6 to 100",
        (-math.inf, 1.1),
        lambda r: deviation(r, first_order_variance),
    ),
    Claim(
        "variance-constant",
        "RAdam paper",
        "RAdam's factor keeps the variance the same from the first rectified step on",
        "variance at step 6 over that at step 1000, both rectified",
        (0.9, 1.1),
        lambda r: rectified(r, 6),
    ),
)


def table(results: Results) -> list[str]:
    """Simulated variance and both formulas."""
    rows = []
    for step in WATCHED:
        found = estimate(simulated(results, step))
        rows.append(
            [
                str(step),
                spread(found, 5),
                f"{exact_variance(step):.5f}",
                f"{first_order_variance(step):.5f}",
                spread(estimate(rectified(results, step))),
            ]
        )
    head = ["step", "simulated", "exact formula", "first order", "rectified, over step 1000"]
    return [
        f"Variance of 1/sqrt(v) with Gaussian gradients of variance 1, {results['paths']:,} "
        "sequences a seed:",
        "",
        *markdown(head, rows),
    ]


def draw(axes: tuple[Any, ...], results: Results) -> None:
    """Variance over the steps."""
    from docs.pictures import COLOURS

    steps = range(WATCHED[0], WATCHED[-1] + 1)
    exact = [exact_variance(step) for step in steps]
    first_order = [first_order_variance(step) for step in steps]
    axes[0].plot(steps, exact, color=COLOURS[0], label="exact formula")
    axes[0].plot(steps, first_order, color=COLOURS[1], linestyle="--", label="first order")
    means = [estimate(simulated(results, step)).mean for step in WATCHED]
    axes[0].plot(WATCHED, means, "o", color=COLOURS[2], label="simulated")
    axes[0].set(xscale="log", yscale="log", xlabel="step", ylabel="variance")
    axes[0].set_title("Adaptive learning rate, beta_2 = 0.999")


EXPERIMENT = Experiment(
    name="variance",
    title="The variance of the adaptive learning rate",
    about="RAdam's factor rests on a formula for the variance of $1/\\sqrt{v_t}$ when gradients "
    "are Gaussian with mean zero, which real ones need not be. Here the formula, and the "
    "approximation that the factor is made from, are held against a simulation of just that.",
    run=run,
    claims=CLAIMS,
    table=table,
    picture=Picture("Variance over the steps: simulated, exact and approximated", 1, draw),
)
