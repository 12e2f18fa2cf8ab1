"""What an optimizer tells of its steps, against the same numbers taken in NumPy."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import reference
import softmax
import surefoot
import tolerances
from loops import COMPILED, EAGER_AND_COMPILED, MODES, Loop
from reference_base import Reference, Rows, value_at
from scenarios import f32
from surefoot.diagnostics import Diagnostics

OPTIONS = {"learning_rate": f32(0.03), "beta_2": f32(0.9), "epsilon": f32(1e-4)}
WARMUP = OPTIONS | {"weight_decay": 0.125, "total_steps": 8, "clipnorm": 0.5}
SHAPES = ((4, 3), (3,))
STEPS = 7

Follow = Callable[[Sequence[np.ndarray]], Reference]


def schedule() -> keras.optimizers.schedules.LearningRateSchedule:
    return keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.25, 0.0625])


PAIRS: dict[str, tuple[Callable[[], Any], Follow]] = {
    "radam": (
        lambda: surefoot.RectifiedAdam(**WARMUP, amsgrad=True),
        lambda p: reference.RectifiedAdam(p, **WARMUP, amsgrad=True),
    ),
    "radam skipping": (
        lambda: surefoot.RectifiedAdam(**WARMUP, unrectified_update="skip"),
        lambda p: reference.RectifiedAdam(p, **WARMUP, unrectified_update="skip"),
    ),
    "radam accumulating": (
        lambda: surefoot.RectifiedAdam(**WARMUP, gradient_accumulation_steps=3),
        lambda p: reference.RectifiedAdam(p, **WARMUP, gradient_accumulation_steps=3),
    ),
    "nadam": (
        lambda: surefoot.Nadam(**OPTIONS | {"learning_rate": schedule()}, nonfinite="skip"),
        lambda p: reference.Nadam(
            p,
            **OPTIONS | {"learning_rate": lambda n: 0.25 if n <= 3 else 0.0625},
            nonfinite="skip",
        ),
    ),
    "ranger": (
        lambda: surefoot.Ranger(**WARMUP, sync_period=3),
        lambda p: reference.ranger(p, **WARMUP, sync_period=3),
    ),
    "lookahead": (
        lambda: surefoot.Lookahead(keras.optimizers.SGD(0.125, momentum=0.5), 2),
        lambda p: reference.Lookahead(reference.SGD(p, 0.125, 0.5), 2),
    ),
}


def norm(arrays: Sequence[np.ndarray]) -> float:
    return math.sqrt(sum(float(np.sum(np.square(a))) for a in arrays))


def expected_rates(run: Reference) -> dict[str, float]:
    """The rates of the update that comes next."""
    run = getattr(run, "inner", run)
    if not isinstance(run, reference.RectifiedAdam):
        rate = value_at(run.learning_rate, run.updates)
        return {"effective_learning_rate": rate}
    factor = run.rectification(run.updates + 1)
    if factor is None:
        factor = 1.0 if run.unrectified_update == "momentum" else 0.0
    return {
        "effective_learning_rate": run.rate(run.updates) * factor,
        "rectification": factor,
    }


def followed(run: Reference, gradients: list[np.ndarray]) -> dict[str, float]:
    """One call of ``apply_gradients`` in NumPy, and what there is to tell of it."""
    rates = expected_rates(run)
    accumulated = [0.0 if s is None else s for s in run._sums]
    before = [p.copy() for p in run.parameters]
    skipped = run.skipped
    made = run.apply(gradients)
    share = run.gradient_accumulation_steps
    size = norm([(g + s) / share for g, s in zip(gradients, accumulated, strict=True)])
    update = norm([a - b for a, b in zip(run.parameters, before, strict=True)])
    numbers = rates | {
        "gradient_norm": size,
        "gradient_norm_max": size,
        "parameter_norm": norm(before),
        "update_ratio": update / norm(before),
    }
    if not made:
        numbers = dict.fromkeys(numbers, math.nan)
    return numbers | {"skipped_steps": run.skipped - skipped}


def check(told: dict[str, float], right: dict[str, float], message: str) -> None:
    assert set(told) == set(right)
    for name, value in right.items():
        np.testing.assert_allclose(
            told[name], value, rtol=tolerances.NORMS_FLOAT32, err_msg=f"{name}, {message}"
        )


CASES = [(name, mode) for name in PAIRS for mode in EAGER_AND_COMPILED]
CASES += [("radam", mode) for mode in MODES if mode not in EAGER_AND_COMPILED]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_every_step(name: str, mode: str) -> None:
    make, follow = PAIRS[name]
    start = [np.random.default_rng(1).normal(size=shape) for shape in SHAPES]
    optimizer = make()
    diagnostics = Diagnostics(optimizer)
    diagnostics.start()
    loop = Loop(optimizer, start, mode=mode)
    run = follow(start)
    for step in range(STEPS):
        random = np.random.default_rng(step)
        gradients = [random.normal(size=shape) * 10.0 ** random.integers(-2, 2) for shape in SHAPES]
        if name == "nadam" and step == 4:
            gradients[1][0] = np.inf
        loop.step(gradients)
        check(diagnostics.read(), followed(run, gradients), f"step {step}")
        diagnostics.reset()
    assert run.updates == STEPS // 3 if "accumulating" in name else run.updates >= STEPS - 1


@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_a_row_given_twice_counts_once(mode: str) -> None:
    """Rows 3 and 4 of the same place are a row of 7: the norm is 7, not 5."""
    optimizer = surefoot.RectifiedAdam(0.5)
    diagnostics = Diagnostics(optimizer)
    diagnostics.start()
    loop = Loop(optimizer, [np.ones((4, 1))], mode=mode)
    loop.step([Rows(np.array([1, 1]), np.array([[3.0], [4.0]]))])
    told = diagnostics.read()
    assert told["gradient_norm"] == pytest.approx(7.0)
    assert told["update_ratio"] == pytest.approx(0.5 * 7.0 / 2.0)


def test_norms_of_float16_do_not_overflow() -> None:
    """At 300 already a square is more than float16 has."""
    optimizer = surefoot.RectifiedAdam(0.0)
    diagnostics = Diagnostics(optimizer)
    diagnostics.start()
    Loop(optimizer, [np.full(4, 300.0)], dtype="float16").step([np.full(4, 400.0)])
    told = diagnostics.read()
    assert told["gradient_norm"] == pytest.approx(800.0)
    assert told["parameter_norm"] == pytest.approx(600.0)


def test_stopped_steps_measure_nothing() -> None:
    optimizer = surefoot.Nadam(0.1)
    diagnostics = Diagnostics(optimizer)
    loop = Loop(optimizer, [np.ones(2)])
    diagnostics.start()
    loop.step([np.ones(2)])
    diagnostics.stop()
    loop.step([np.full(2, 100.0)])
    assert diagnostics.read()["gradient_norm_max"] == pytest.approx(math.sqrt(2))


class Table:
    """Collects what the callback writes, a row for each step."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}

    def __call__(self, name: str, value: float, step: int) -> None:
        self.rows.setdefault(step, {})[name.removeprefix("optimizer/")] = value


def expected_rows(follow: Follow, epochs: int) -> list[dict[str, float]]:
    run = follow(softmax.start())
    images, labels = softmax.digits()
    rows = []
    for _ in range(epochs):
        for i in range(0, len(images), softmax.BATCH):
            batch = images[i : i + softmax.BATCH].astype(float), labels[i : i + softmax.BATCH]
            rows.append(followed(run, softmax.softmax_gradients(run.parameters, *batch)))
    return rows


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("way", "wrapped"), [*((way, False) for way in softmax.WAYS), ("default", True)]
)
def test_fit_step_by_step(way: str, wrapped: bool) -> None:
    """Learning rates, norms and ratios of a compiled `fit`, also under loss scaling."""
    make, follow = PAIRS["ranger"]
    optimizer = keras.optimizers.LossScaleOptimizer(make(), 64.0) if wrapped else make()
    table = Table()
    callback = surefoot.OptimizerDiagnostics(every=1, write=table)
    trained = softmax.fitted(optimizer, 2, how=softmax.WAYS[way], callbacks=[callback])
    right = expected_rows(follow, 2)
    assert list(table.rows) == list(range(1, len(right) + 1))
    for told, expected in zip(table.rows.values(), right, strict=True):
        assert told.pop("loss_scale", None) == (64.0 if wrapped else None)
        for name, value in expected.items():
            # the gradients themselves are float32 of the backend
            np.testing.assert_allclose(told[name], value, rtol=tolerances.FIT_OF_DISTANCE)
    untold = softmax.fitted(make(), 2, how=softmax.WAYS[way])
    for one, other in zip(trained, untold, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6, err_msg="measuring changed it")


def of_several(part: list[dict[str, float]]) -> dict[str, float]:
    """What is told of several updates, from what is told of each."""
    return part[-1] | {
        "gradient_norm": float(np.mean([s["gradient_norm"] for s in part])),
        "gradient_norm_max": max(s["gradient_norm"] for s in part),
        "update_ratio": float(np.mean([s["update_ratio"] for s in part])),
        "skipped_steps": 0,
    }


@pytest.mark.parametrize("every", ["epoch", 3])
def test_interval(every: int | str, tmp_path: Path) -> None:
    """A row is the mean, the largest or the last of the updates since the one before."""
    make, follow = PAIRS["radam"]
    single = expected_rows(follow, 2)
    path = tmp_path / "optimizer.csv"
    callback = surefoot.OptimizerDiagnostics(every=every, filename=path)
    softmax.fitted(make(), 2, callbacks=[callback])
    length = softmax.BATCHES if every == "epoch" else every
    with path.open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert [row["step"] for row in rows] == [*range(length, len(single) + 1, length)]
    for i, row in enumerate(rows):
        part = single[i * length : (i + 1) * length]
        assert row["epoch"] == (row["step"] - 1) // softmax.BATCHES
        for name, value in of_several(part).items():
            np.testing.assert_allclose(row[name], value, rtol=tolerances.FIT_OF_DISTANCE)


@pytest.mark.parametrize("every", ["epoch", 2, 5, 1000])
def test_each_epoch_is_in_the_history(every: int | str) -> None:
    """With rows that end with it, within it, across it or never."""
    assert softmax.BATCHES % 5 != 0
    make, follow = PAIRS["radam"]
    single = expected_rows(follow, 3)
    logs = {name: LogOf(name) for name in (*single[0], "loss")}
    callbacks = [surefoot.OptimizerDiagnostics(every=every), *logs.values()]
    softmax.fitted(make(), 3, callbacks=callbacks)
    for epoch in range(3):
        part = single[epoch * softmax.BATCHES : (epoch + 1) * softmax.BATCHES]
        for name, value in of_several(part).items():
            assert len(logs[name].values) == 3
            np.testing.assert_allclose(
                logs[name].values[epoch], value, rtol=tolerances.FIT_OF_DISTANCE, err_msg=name
            )


@pytest.mark.parametrize(
    "how", [{}] if COMPILED == "eager" else [{}, {"steps_per_execution": 3}], ids=str
)
def test_steps_skipped_by_loss_scaling_are_counted(how: dict[str, Any]) -> None:
    """A scale of 2^127 is too much for gradients like these: it is halved until it fits."""
    optimizer = keras.optimizers.LossScaleOptimizer(surefoot.Nadam(), initial_scale=2.0**127)
    log = LogOf("skipped_steps")
    callbacks = [surefoot.OptimizerDiagnostics(), log]
    softmax.fitted(optimizer, 2, how=how | {"loss_weights": [100.0]}, callbacks=callbacks)
    skipped = 2 * softmax.BATCHES - int(keras.ops.convert_to_numpy(optimizer.iterations.value))
    assert skipped > 0
    assert sum(log.values) == skipped


class LogOf(keras.callbacks.Callback):
    """What a callback that comes later finds in an epoch's logs."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.values: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.values.append((logs or {})[self.name])


def test_optimizer_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Received: .*Adam"):
        softmax.fitted(keras.optimizers.Adam(), 1, callbacks=[surefoot.OptimizerDiagnostics()])


@pytest.mark.parametrize("every", [0, -3, 1.5, "batch"])
def test_interval_of_another_kind_is_refused(every: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"Received: every={every!r}"):
        surefoot.OptimizerDiagnostics(every=every)
