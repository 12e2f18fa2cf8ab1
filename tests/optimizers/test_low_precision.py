"""Variables of 16 bits train like float32 ones, to their own resolution."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest

import surefoot
from loops import BACKEND, COMPILED, EAGER_AND_COMPILED, Loop, to_numpy

LOOK = 250
SHAPES = ((5, 3), (4,))
HALF = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
# With float16 the gradients' squares are below its range: all the more reason for float32 moments.
RATES = {"learning_rate": 1e-3, "epsilon": 1e-7}
OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "radam": lambda **o: surefoot.RectifiedAdam(**RATES, weight_decay=0.01, **o),
    "radam_amsgrad": lambda **o: surefoot.RectifiedAdam(**RATES, amsgrad=True, **o),
    "nadam": lambda **o: surefoot.Nadam(**RATES, **o),
    "lookahead": lambda **o: surefoot.Lookahead(surefoot.RectifiedAdam(**RATES, **o)),
    "mean": lambda **o: surefoot.SWA(surefoot.Nadam(**RATES, **o), average_period=2),
    "ranger": lambda **o: surefoot.Ranger(**RATES, weight_decay=0.01, **o),
}


def resolution(values: np.ndarray, dtype: str) -> np.ndarray:
    """The distance to the neighbouring 16-bit number."""
    return np.spacing(np.abs(values).astype(HALF[dtype])).astype(float)


def start(dtype: str) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=s).astype(HALF[dtype]).astype("float32") for s in SHAPES]


def gradients(step: int, dtype: str) -> list[np.ndarray]:
    random = np.random.default_rng(step)
    return [
        (1e-2 * (0.3 + random.normal(size=s))).astype(HALF[dtype]).astype("float32") for s in SHAPES
    ]


def pair(name: str, dtype: str, mode: str, **options: Any) -> tuple[Loop, Loop]:
    low = Loop(OPTIMIZERS[name](**options), start(dtype), dtype=dtype, mode=mode)
    return low, Loop(OPTIMIZERS[name](), start(dtype), dtype="float32", mode=mode)


def assert_to_resolution(
    low: list[np.ndarray], full: list[np.ndarray], dtype: str, step: int
) -> None:
    for ours, theirs in zip(low, full, strict=True):
        off = np.max(np.abs(ours - theirs) / resolution(theirs, dtype))
        assert off <= 1.0, f"{off} units in the last place after step {step}"


@functools.cache
def float32_path(name: str, dtype: str, steps: int) -> list[list[np.ndarray]]:
    """Where float32 variables are after every ``LOOK`` steps under the same gradients."""
    full = Loop(OPTIMIZERS[name](), start(dtype), mode=COMPILED)
    path = []
    for step in range(1, steps + 1):
        full.step(gradients(step, dtype))
        if step % LOOK == 0:
            path.append(full.parameters)
    return path


@pytest.mark.sampled(len(OPTIMIZERS))
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize(("dtype", "steps"), [("bfloat16", 1500), ("float16", 500)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_long_run_follows_float32(name: str, dtype: str, steps: int, mode: str) -> None:
    path = float32_path(name, dtype, steps)
    low = Loop(OPTIMIZERS[name](), start(dtype), dtype=dtype, mode=mode)
    for step in range(1, steps + 1):
        low.step(gradients(step, dtype))
        if step % LOOK == 0:
            assert_to_resolution(low.parameters, path[step // LOOK - 1], dtype, step)
    moved = np.abs(path[-1][0] - start(dtype)[0])
    assert np.all(moved > 2 * resolution(start(dtype)[0], dtype)), "the run shows nothing"
    for variable in low.optimizer.variables:
        assert keras.backend.standardize_dtype(variable.dtype) not in HALF, variable.path


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_value_assigned_from_outside_wins(name: str, dtype: str, mode: str) -> None:
    low, full = pair(name, dtype, mode)
    for step in range(1, 25):  # 24 steps: between two periods of Lookahead
        low.step(gradients(step, dtype))
        full.step(gradients(step, dtype))
    loaded = [(2 * p).astype(HALF[dtype]).astype("float32") for p in start(dtype)]
    for loop in (low, full):
        for variable, value in zip(loop.variables, loaded, strict=True):
            variable.assign(keras.ops.convert_to_tensor(value, dtype=loop.dtype))
    for step in range(25, 80):
        low.step(gradients(step, dtype))
        full.step(gradients(step, dtype))
        assert_to_resolution(low.parameters, full.parameters, dtype, step)


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("dtype", HALF)
def test_steps_below_the_resolution(dtype: str, mode: str) -> None:
    """A variable at one, and a first step of a tenth of the distance to its neighbour below.

    Nearest rounding stays; stochastic rounding moves one element in ten, so that the mean
    moves by the step; the master value remembers, and moves after five steps.
    """
    count = 4096
    gap = float(resolution(np.array(0.75), dtype))
    options = {"learning_rate": gap / 10, "beta_1": 0.0, "sma_threshold": 1e9}

    def after(steps: int, low_precision: str) -> np.ndarray:
        keras.utils.set_random_seed(11)
        optimizer = surefoot.RectifiedAdam(**options, low_precision=low_precision)
        loop = Loop(optimizer, [np.ones(count)], dtype=dtype, mode=mode)
        for _ in range(steps):
            loop.step([np.ones(count)])
        return loop.parameters[0]

    assert np.all(after(9, "nearest") == 1)
    assert np.all(after(4, "master") == 1)
    assert np.all(after(6, "master") == 1 - gap)
    first = after(1, "stochastic")
    assert set(np.unique(first)) == {1 - gap, 1}
    share = np.mean(first != 1)
    # the standard deviation of the share of 4096 draws of 0.1 is 0.0047
    assert abs(share - 0.1) < 5 * 0.0047
    later = after(9, "stochastic")
    # steps are independent: 0.9 expected, standard deviation below sqrt(9 * 0.09 / 4096)
    assert abs(np.mean(1 - later) / gap - 0.9) < 5 * 0.0141
    np.testing.assert_array_equal(after(9, "stochastic"), later)


@pytest.mark.parametrize("low_precision", ["stochastic", "nearest"])
def test_without_master_there_is_none(low_precision: str) -> None:
    optimizer = surefoot.Nadam(low_precision=low_precision)
    loop = Loop(optimizer, [np.ones(3)], dtype="bfloat16")
    loop.step([np.ones(3)])
    assert sorted(optimizer.get_slot_names()) == ["m", "v"]
    wide = sum(int(np.prod(v.shape)) for v in optimizer.variables if tuple(v.shape) == (3,))
    assert wide == 2 * 3


@pytest.mark.once
@pytest.mark.parametrize("wrong", ["exact", None, 16])
def test_unknown_low_precision_is_refused(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="low_precision"):
        surefoot.Nadam(low_precision=wrong)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "policy"),
    [(name, "mixed_float16") for name in OPTIMIZERS]
    + [("nadam", "mixed_bfloat16"), ("radam", "bfloat16"), ("ranger", "bfloat16")],
)
def test_policies_in_fit(name: str, policy: str) -> None:
    """A regression whose answer is known is found under each policy."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(256, 4)).astype("float32")
    truth = np.array([[1.0], [-2.0], [0.5], [3.0]], "float32")
    model = keras.Sequential(
        [keras.layers.Input((4,)), keras.layers.Dense(1, dtype=keras.DTypePolicy(policy))]
    )
    optimizer = OPTIMIZERS[name]()
    optimizer.learning_rate = 0.25
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, "mse")
    model.fit(inputs, inputs @ truth, batch_size=64, epochs=60, verbose=0)
    kernel = to_numpy(model.layers[0].kernel).astype("float32")
    np.testing.assert_allclose(kernel, truth, rtol=0.02, atol=0.02)


# Keras's LossScaleOptimizer itself does not run outside jit on JAX.
SCALING = (COMPILED,) if BACKEND == "jax" else EAGER_AND_COMPILED


@pytest.mark.sampled(len(SCALING))
@pytest.mark.parametrize("mode", SCALING)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_skipped_for_overflow_leaves_everything(name: str, mode: str) -> None:
    """Keras's LossScaleOptimizer sees an infinite gradient at the first and a later step."""
    inner = OPTIMIZERS[name]()
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=4.0)
    start_values = [np.ones(3, "float32")]
    loop = Loop(scaled, start_values, mode=mode)
    plain = Loop(OPTIMIZERS[name](), start_values, mode=mode)
    for step in range(1, 15):
        gradient = np.random.default_rng(step).normal(size=3)
        if step in (1, 5, 7):
            loop.step([np.array([1.0, np.inf, np.nan])])
        else:
            scale = float(to_numpy(scaled.dynamic_scale))
            loop.step([gradient * scale])
            plain.step([gradient])
        np.testing.assert_allclose(loop.parameters[0], plain.parameters[0], rtol=1e-6)
        if inner.built and plain.optimizer.built:
            for ours, theirs in zip(
                inner.get_weights(), plain.optimizer.get_weights(), strict=True
            ):
                np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.sampled(len(EAGER_AND_COMPILED))
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["radam", "ranger"])
def test_accumulated_gradients_are_summed_in_float32(name: str, dtype: str, mode: str) -> None:
    options = {"gradient_accumulation_steps": 4}
    low = Loop(OPTIMIZERS[name](**options), start(dtype), dtype=dtype, mode=mode)
    full = Loop(OPTIMIZERS[name](**options), start(dtype), dtype="float32", mode=mode)
    for step in range(1, 41):
        for loop in (low, full):
            loop.step(gradients(step, dtype))
    assert_to_resolution(low.parameters, full.parameters, dtype, 40)


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("dtype", HALF)
def test_average_overwrites(dtype: str, mode: str) -> None:
    """Keras's moving average, which is in float32, becomes the value of the variable."""
    optimizer = surefoot.Nadam(**RATES, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=3)
    low = Loop(optimizer, start(dtype), dtype=dtype, mode=mode)
    for step in range(1, 4):
        low.step(gradients(step, dtype))
    averages = optimizer._model_variables_moving_average
    for value, average in zip(low.parameters, averages, strict=True):
        rounded = to_numpy(average).astype(HALF[dtype]).astype("float32")
        np.testing.assert_array_equal(value, rounded)
