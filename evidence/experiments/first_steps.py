"""What the first steps do to the gradients, after figure 2 of the RAdam paper."""

from __future__ import annotations

from typing import Any

import numpy as np

from evidence import tasks
from evidence.claims import Claim, Results, estimate
from evidence.experiment import Experiment, Options, Picture
from evidence.showing import look, markdown, spread

RATE = 8e-3
STEPS = 20
RUN = 300
"""The run that the warmup is a tenth of."""
TINY = 1e-6
OPTIMIZERS = ("adam", "adam+warmup(0.1)", "radam")
WATCHED = (1, 2, 5, 10, 20)


def run(options: Options) -> Results:
    """Train a few steps with each optimizer from each seed, looking at all gradients."""
    import keras

    import surefoot

    task = tasks.post_norm_small()
    records: list[dict[str, Any]] = []
    for expression in OPTIMIZERS:
        for seed in range(5 if options.full else 3):
            records += _watch(task, expression, seed)
    return {
        "learning_rate": RATE,
        "batch_size": task.batch_size,
        "data_sha256": task.data_hash(),
        "task_facts": dict(task.facts),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "surefoot": surefoot.__version__,
        "points": records,
    }


def _watch(task: Any, expression: str, seed: int) -> list[dict[str, Any]]:
    import jax
    import keras

    from surefoot.compare.search.expression import parse
    from surefoot.compare.search.registry import resolve

    recipe = resolve(parse(expression))
    keras.utils.set_random_seed(seed)
    model = task.model()
    optimizer = recipe.factory(RATE)
    optimizer.build(model.trainable_variables)

    def loss(weights: Any, x: Any, y: Any) -> Any:
        predicted, _ = model.stateless_call(weights, [], x, training=True)
        return task.loss(y, predicted)

    gradients_of = jax.jit(jax.grad(loss))
    apply = jax.jit(optimizer.stateless_apply)
    weights = start = [variable.value for variable in model.trainable_variables]
    state = [variable.value for variable in optimizer.variables]
    order = np.random.default_rng(seed).permutation(len(task.train[0]))
    records = []
    for step in range(1, STEPS + 1):
        rows = order[(step - 1) * task.batch_size : step * task.batch_size]
        gradients = gradients_of(weights, task.train[0][rows], task.train[1][rows])
        if step in WATCHED:
            sizes = np.concatenate([np.abs(np.ravel(each)) for each in gradients])
            moved = np.concatenate(
                [np.ravel(new - old) for new, old in zip(weights, start, strict=True)]
            )
            records.append(
                {
                    "optimizer": recipe.label,
                    "seed": seed,
                    "step": step,
                    "tiny_share": float(np.mean(sizes < TINY)),
                    "median_gradient": float(np.median(sizes)),
                    "distance": float(np.linalg.norm(moved)),
                }
            )
        # The learning rate is a variable of the optimizer, as compare sets it before each step.
        rate = RATE * recipe.schedule.factor(step - 1, RUN)
        index = next(i for i, v in enumerate(optimizer.variables) if v.path.endswith("rate"))
        state[index] = np.float32(rate)
        weights, state = apply(state, gradients, weights)
    return records


def values(results: Results, key: str, optimizer: str, step: int) -> list[float]:
    """One value per seed: what was seen of the gradient that leads to the given step."""
    found = [p for p in results["points"] if (p["optimizer"], p["step"]) == (optimizer, step)]
    return [point[key] for point in sorted(found, key=lambda point: point["seed"])]


def excess(results: Results, other: str) -> list[float]:
    """By seed, by how much Adam's share of tiny gradients exceeds another's at the tenth step."""
    adam = values(results, "tiny_share", "Adam", 10)
    return [a - b for a, b in zip(adam, values(results, "tiny_share", other, 10), strict=True)]


CLAIMS = (
    Claim(
        "adam-gradients-collapse",
        "RAdam paper, figure 2",
        "Within ten updates of Adam without a warmup, most gradients nearly vanish",
        "share of gradients below 1e-6 at the tenth step",
        (0.4, 1),
        lambda r: values(r, "tiny_share", "Adam", 10),
    ),
    Claim(
        "warmup-keeps-gradients",
        "RAdam paper, figure 2",
        "With a warmup, the gradients of Adam do not vanish",
        "by how much Adam's share exceeds that with a warmup",
        (0.2, 1),
        lambda r: excess(r, "Adam+warmup(0.1)"),
    ),
    Claim(
        "radam-keeps-gradients",
        "RAdam paper",
        "With RAdam, the gradients do not vanish",
        "by how much Adam's share exceeds RAdam's",
        (0.2, 1),
        lambda r: excess(r, "RectifiedAdam"),
    ),
)


def _labels(results: Results) -> list[str]:
    return list(dict.fromkeys(point["optimizer"] for point in results["points"]))


def table(results: Results) -> list[str]:
    """Shares of tiny gradients and distances by step."""
    rows = []
    for label in _labels(results):
        shares = [estimate(values(results, "tiny_share", label, step)) for step in WATCHED]
        far = estimate(values(results, "distance", label, 10))
        rows.append([f"`{label}`", *(spread(each) for each in shares), spread(far, 1)])
    head = ["", *(f"step {step}" for step in WATCHED), "moved by step 10"]
    return [
        f"Share of gradients smaller than 1e-6 at a learning rate of {results['learning_rate']:g}, "
        "before the given step, and the distance of all weights together from where they began:",
        "",
        *markdown(head, rows),
    ]


def draw(axes: tuple[Any, ...], results: Results) -> None:
    """Share of tiny gradients over the steps."""
    labels = _labels(results)
    for label in labels:
        shares = [estimate(values(results, "tiny_share", label, step)).mean for step in WATCHED]
        axes[0].plot(WATCHED, shares, label=label, **look(label))
    axes[0].set(xlabel="step", ylabel="share of gradients below 1e-6", xscale="log", ylim=(0, 1))
    axes[0].set_title("Post-norm transformer, learning rate 8e-3")


EXPERIMENT = Experiment(
    name="first-steps",
    title="The first steps",
    about="All gradients of the post-norm transformer during its first steps at a high learning "
    "rate. It shows that large first steps do damage; whether they are too large because of "
    "their variance or for another reason it does not show.",
    run=run,
    claims=CLAIMS,
    table=table,
    picture=Picture("Share of vanishing gradients over the first steps", 1, draw),
)
