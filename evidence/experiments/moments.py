"""Moments and slow weights in bfloat16."""

from __future__ import annotations

import math

from evidence.claims import Claim, Results, estimate
from evidence.comparison import Comparison, Trials
from evidence.experiment import Experiment, Options
from evidence.showing import markdown, spread
from surefoot.compare.formatting import rate as rate_text

SEEDS = 5
FORMS = {
    "RectifiedAdam": ("radam", "radam(moments='bfloat16')"),
    "Nadam": ("nadam", "nadam(moments='bfloat16')"),
    "Ranger": ("ranger", "ranger(moments='bfloat16')"),
    "Ranger, slow weights too": (
        "ranger",
        "ranger(moments='bfloat16',slow_weights='bfloat16')",
    ),
}
"""By what is compared: with float32 and with bfloat16."""

RATES = {
    "digits": {"radam": "3e-3", "nadam": "3e-3", "ranger": "3e-3"},
    "post-norm": {"radam": "8e-3", "nadam": "2e-3", "ranger": "1.6e-2"},
    "pre-norm": {"radam": "8e-3", "nadam": "4e-3", "ranger": "1.6e-2"},
}
"""Near the best ones of the other experiments."""

TASKS = {
    "digits": ("digits", 400),
    "post-norm": ("evidence.tasks:post_norm_small", 300),
    "pre-norm": ("evidence.tasks:pre_norm_small", 300),
}
LARGEST_LOSS = {"digits": 1.0, "post-norm": 0.05, "pre-norm": 0.05}
"""What bfloat16 may cost: points of accuracy, or nats of loss. Seeds differ by as much."""


def run(options: Options) -> Results:
    """Run all tasks, or go on with them."""
    found = {}
    for name, (task, steps) in TASKS.items():
        sweeps = [
            (sorted({form for forms in FORMS.values() for form in forms if form.startswith(o)}), r)
            for o, r in RATES[name].items()
        ]
        found[name] = Comparison(
            name=f"moments-{name}", task=task, steps=steps, sweeps=sweeps, seeds=SEEDS
        ).run(options)
    return found


def cost(results: Results, task: str, compared: str) -> list[float]:
    """By seed, what bfloat16 costs: points of accuracy, or nats of loss."""
    trials = Trials(results[task], failed=math.nan)
    short = FORMS[compared][0]
    rate = float(RATES[task][short])
    exact, stored = (trials.at(label_of(form), rate) for form in FORMS[compared])
    scale = -100.0 if task == "digits" else 1.0
    return [scale * (b - a) for a, b in zip(exact, stored, strict=True)]


def label_of(form: str) -> str:
    """What `surefoot compare` calls an optimizer."""
    names = {"radam": "RectifiedAdam", "nadam": "Nadam", "ranger": "Ranger"}
    name, bracket, rest = form.partition("(")
    return names[name] + bracket + rest.replace(",", ", ")


def _claim(task: str, compared: str) -> Claim:
    key = f"moments-{task}-{compared.replace(',', '').replace(' ', '-').lower()}"
    unit = "points of accuracy" if task == "digits" else "nats of validation loss"
    what = "its state in bfloat16" if "too" in compared else "moments in bfloat16"
    return Claim(
        key,
        "documentation",
        f"{compared.partition(',')[0]} trains as well with {what} ({task})",
        f"{unit} lost to bfloat16",
        (-math.inf, LARGEST_LOSS[task]),
        lambda r: cost(r, task, compared),
    )


CLAIMS = tuple(_claim(task, compared) for task in TASKS for compared in FORMS)


def table(results: Results) -> list[str]:
    """What bfloat16 costs, by task and optimizer."""
    rows = [
        [compared, *(spread(estimate(cost(results, task, compared)), 3) for task in TASKS)]
        for compared in FORMS
    ]
    head = ["", "digits (points)", "post-norm (nats)", "pre-norm (nats)"]
    lines = ["What bfloat16 costs, by seed; negative is a gain:", "", *markdown(head, rows), ""]
    rates = "; ".join(
        f"{task}: " + ", ".join(f"{o} {rate_text(float(r))}" for o, r in RATES[task].items())
        for task in TASKS
    )
    return [*lines, f"Learning rates: {rates}."]


EXPERIMENT = Experiment(
    name="moments",
    title="Moments in bfloat16",
    about="The tasks of the other experiments with moments in bfloat16, and with slow weights in "
    "it, too, against float32, at a learning rate near the best. A difference is that of two runs "
    "of one seed, which begin with the same weights and see the same data in the same order.",
    run=run,
    claims=CLAIMS,
    table=table,
)
