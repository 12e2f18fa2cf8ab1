"""The scalars of a step against 50-digit arithmetic, at every step and where they are hard."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import mpmath
import numpy as np
import pytest

import surefoot
import surefoot.engines
import tolerances
from loops import BACKEND, COMPILED, EAGER_AND_COMPILED, Loop, to_numpy
from surefoot.optimizers.nadam import MomentumProduct, nadam_scalars
from surefoot.optimizers.rectified_adam import rectified_adam_scalars

BETA_1 = (0.0, 0.5, 0.9, 0.99, 0.999)
BETA_2 = (0.9, 0.99, 0.999, 0.9999, 0.99999)
EVERY_STEP = 10_000
GRID = tuple(round(10 ** (4 + 5 * i / 40)) for i in range(1, 41))
STEPS = (*range(1, EVERY_STEP + 1), *GRID)
RATE = 0.125
THRESHOLD = 5.0

mp = mpmath.mp.clone()
mp.dps = 50


@functools.cache
def corrections(beta: float) -> list[Any]:
    """1 - beta^t at every step."""
    return [1 - mp.mpf(beta) ** t for t in STEPS]


@functools.cache
def lengths(beta_2: float) -> list[Any]:
    """The paper's rho_t at every step."""
    longest = 2 / (1 - mp.mpf(beta_2)) - 1
    return [
        longest - 2 * t * (1 - correction) / correction
        for t, correction in zip(STEPS, corrections(beta_2), strict=True)
    ]


@functools.cache
def factors(beta_2: float) -> tuple[np.ndarray, np.ndarray]:
    """Which steps are rectified, and the paper's r_t (1 where it has none)."""
    longest = 2 / (1 - mp.mpf(beta_2)) - 1
    rectified = np.array([rho >= THRESHOLD for rho in lengths(beta_2)])
    values = [
        mp.sqrt((rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho))
        if rho >= THRESHOLD
        else mp.mpf(1)
        for rho in lengths(beta_2)
    ]
    return rectified, np.array(values, dtype=float)


def as_floats(values: list[Any]) -> np.ndarray:
    return np.array([float(value) for value in values])


ENGINE_NAMESPACE = surefoot.engines.active().scalar_namespace(keras.Variable(0.0))


class Arithmetic(NamedTuple):
    """An array namespace and dtype in which scalars are computed, and how exact that is."""

    name: str
    xp: Any
    dtype: str
    tolerance: float

    def number(self, value: Any) -> Any:
        """``value`` as an engine hands it over."""
        if self.xp is np:
            return np.asarray(value, self.dtype)[()]
        return keras.ops.convert_to_tensor(np.asarray(value, self.dtype))


# What this backend's engine computes in, and float32, which others and GPUs compute in.
ARITHMETICS = {
    "float32": Arithmetic("float32", keras.ops, "float32", tolerances.SCALARS_FLOAT32),
    "engine": Arithmetic(
        "engine",
        ENGINE_NAMESPACE,
        surefoot.engines.active().scalar_dtype(),
        tolerances.SCALARS_FLOAT32
        if surefoot.engines.active().scalar_dtype() == "float32"
        else tolerances.SCALARS_FLOAT64,
    ),
}
in_each_arithmetic = pytest.mark.parametrize("in_", ARITHMETICS.values(), ids=ARITHMETICS)


def hyperparameters(in_: Arithmetic, **values: float) -> dict[str, Any]:
    """Hyperparameters as an engine hands them over, the betas as their complements."""
    exact = {"decay": 0.0, "total_steps": 0.0, "warmup_proportion": 0.1, "min_lr": 0.0}
    exact |= {"sma_threshold": THRESHOLD, "epsilon": 1e-7, "weight_decay": 1.0}
    for name, value in values.items():
        if name.startswith("beta"):
            exact[f"one_minus_{name}"] = float(1 - mp.mpf(value))
        else:
            exact[name] = value
    return {name: in_.number(value) for name, value in exact.items()}


def radam(in_: Arithmetic, **values: float) -> Any:
    return rectified_adam_scalars(
        in_.number(STEPS), in_.number(RATE), hyperparameters(in_, **values), in_.xp
    )


@in_each_arithmetic
@pytest.mark.parametrize("beta_2", BETA_2)
def test_rectification_and_bias_corrections(beta_2: float, in_: Arithmetic) -> None:
    rectified, r = factors(beta_2)
    for beta_1 in BETA_1:
        scalars = radam(in_, beta_1=beta_1, beta_2=beta_2)
        np.testing.assert_array_equal(to_numpy(scalars.adaptive), rectified)
        np.testing.assert_allclose(
            to_numpy(scalars.moment_weight),
            RATE * r / as_floats(corrections(beta_1)),
            rtol=in_.tolerance,
        )
        np.testing.assert_allclose(
            to_numpy(scalars.root_scale),
            as_floats([1 / mp.sqrt(c) for c in corrections(beta_2)]),
            rtol=in_.tolerance,
        )


@pytest.mark.once
@pytest.mark.parametrize(
    ("beta_2", "first"), [(0.9, 6), (0.99, 6), (0.999, 6), (0.9999, 6), (0.99999, 6)]
)
def test_first_rectified_step(beta_2: float, first: int) -> None:
    """By hand: rho_t is a little below t, so that 5 is passed at 6."""
    assert int(np.argmax(factors(beta_2)[0])) + 1 == first
    adaptive = to_numpy(radam(ARITHMETICS["float32"], beta_1=0.9, beta_2=beta_2).adaptive)
    assert int(np.argmax(adaptive)) + 1 == first


@in_each_arithmetic
@pytest.mark.parametrize("threshold_step", [5, 7, 20, 300, 5000])
def test_threshold_that_a_step_just_passes_or_misses(threshold_step: int, in_: Arithmetic) -> None:
    """Handed rho of a step with a relative 1e-5 added, that step is not rectified yet."""
    beta_2 = 0.99999
    rho = float(lengths(beta_2)[threshold_step - 1])
    for share, first in ((-1e-5, threshold_step), (1e-5, threshold_step + 1)):
        scalars = radam(in_, beta_1=0.9, beta_2=beta_2, sma_threshold=rho * (1 + share))
        assert int(np.argmax(to_numpy(scalars.adaptive))) + 1 == first


@in_each_arithmetic
@pytest.mark.parametrize("min_lr", [0.0, 1e-5])
@pytest.mark.parametrize("total", [7, 10_000, 1_000_000])
@pytest.mark.parametrize("proportion", [0.0, 0.1, 1.0])
def test_warmup_and_decay(proportion: float, total: int, min_lr: float, in_: Arithmetic) -> None:
    """Also next to the end, where the rate is a small rest of a difference."""
    steps = np.unique([1, 2, 3, total // 10, total // 2, total - 1, total, total + 1, 9 * total])
    steps = steps[steps > 0]
    warmup = mp.mpf(total) * mp.mpf(proportion)
    span = max(total - warmup, mp.mpf(1))
    wanted = [
        RATE * t / warmup
        if t <= warmup
        else RATE + (mp.mpf(min_lr) - RATE) * min(t - warmup, span) / span
        for t in map(int, steps)
    ]
    settings = {"total_steps": total, "warmup_proportion": proportion, "min_lr": min_lr}
    scalars = rectified_adam_scalars(
        in_.number(steps),
        in_.number(RATE),
        hyperparameters(in_, beta_1=0.9, beta_2=0.999, **settings),
        in_.xp,
    )
    np.testing.assert_allclose(
        to_numpy(scalars.shrink), as_floats(wanted), rtol=in_.tolerance, atol=1e-30
    )


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """In a graph where TensorFlow would run 10,000 steps operation by operation."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    return function


@functools.cache
def nadam_wanted(beta_1: float, schedule_decay: float, steps: int) -> tuple[np.ndarray, ...]:
    """Nadam's weights of gradient and first moment at every step."""

    def mu(t: int) -> Any:
        return mp.mpf(beta_1) * (1 - mp.mpf("0.96") ** (mp.mpf(schedule_decay) * t) / 2)

    product, weights = mp.mpf(1), []
    for t in range(1, steps + 1):
        product *= mu(t)
        following = mu(t + 1)
        weights.append(
            (RATE * (1 - mu(t)) / (1 - product), RATE * following / (1 - product * following))
        )
    return as_floats([a for a, _ in weights]), as_floats([b for _, b in weights])


@pytest.mark.sampled(3)
@pytest.mark.parametrize("schedule_decay", [0.004, 0.5, 0.0])
@pytest.mark.parametrize("beta_1", BETA_1)
def test_momentum_products(beta_1: float, schedule_decay: float) -> None:
    """The product is carried from step to step: its error must not grow with them."""
    in_ = ARITHMETICS["float32"]
    fixed = hyperparameters(in_, beta_1=beta_1, beta_2=0.999, schedule_decay=schedule_decay)
    rate = in_.number(RATE)

    def step(carry: tuple[Any, Any], t: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        scalars, product = nadam_scalars(t, rate, fixed, MomentumProduct(*carry), keras.ops)
        return (product.value, product.residual), (scalars.gradient_weight, scalars.moment_weight)

    count = 1500 if BACKEND == "torch" else EVERY_STEP
    steps = in_.number(np.arange(1, count + 1))
    start = (in_.number(1.0), in_.number(0.0))
    _, (gradient_weight, moment_weight) = compiled(
        lambda start, steps: keras.ops.scan(step, start, steps)
    )(start, steps)
    wanted_gradient, wanted_moment = nadam_wanted(beta_1, schedule_decay, count)
    np.testing.assert_allclose(
        to_numpy(gradient_weight), wanted_gradient, rtol=tolerances.SCALARS_FLOAT32
    )
    np.testing.assert_allclose(
        to_numpy(moment_weight), wanted_moment, rtol=tolerances.SCALARS_FLOAT32
    )


# ---- the same through whole steps ----


def moved(loop: Loop) -> float:
    """How far one step with a gradient of one moves a variable that starts at zero."""
    loop.variables[0].assign(np.zeros(1, "float32"))
    loop.step([np.ones(1)])
    return -float(loop.parameters[0][0])


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("beta_2", BETA_2)
def test_whole_steps_of_rectified_adam(beta_2: float, mode: str) -> None:
    """With m = v = 1 and gradients of one the moments stand still.

    The step then shows rate * r_t / (1 - beta_1^t) * sqrt(1 - beta_2^t).
    """
    loop = Loop(surefoot.RectifiedAdam(RATE, beta_2=beta_2, epsilon=0.0), [np.zeros(1)], mode=mode)
    moved(loop)
    rectified, r = factors(beta_2)
    picked = [*range(12), 19, 99, 999, 9_999, len(STEPS) - 1]
    for i in picked:
        loop.optimizer.set_weights([np.array(STEPS[i] - 1), np.ones(1), np.ones(1)])
        wanted = RATE * r[i] / float(corrections(0.9)[i])
        if rectified[i]:
            wanted *= float(mp.sqrt(corrections(beta_2)[i]))
        assert moved(loop) == pytest.approx(wanted, rel=2 * tolerances.SCALARS_FLOAT32), STEPS[i]


@pytest.mark.parametrize("mode", [COMPILED])
def test_whole_steps_of_nadam(mode: str) -> None:
    """Gradients of one and a second moment kept at one: a + b m, over sqrt(v) s."""
    beta_2, count = 0.999, 600
    loop = Loop(surefoot.Nadam(RATE, beta_2=beta_2, epsilon=0.0), [np.zeros(1)], mode=mode)
    a, b = nadam_wanted(0.9, 0.004, count)
    for t in range(1, count + 1):
        m = float(corrections(0.9)[t - 1])
        # v equals 1 - beta_2^t, which the correction takes back
        assert moved(loop) == pytest.approx(a[t - 1] + b[t - 1] * m, rel=1e-5), t


# ---- detectors of NaN ----


@contextlib.contextmanager
def detector() -> Iterator[None]:
    """The backend's own alarm at NaN and infinity, also in branches that are masked."""
    if BACKEND == "jax":
        import jax

        with jax.debug_nans(True), jax.debug_infs(True):
            yield
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        tf.debugging.enable_check_numerics()
        try:
            yield
        finally:
            tf.debugging.disable_check_numerics()
    else:
        import torch

        with torch.autograd.set_detect_anomaly(True):
            yield


HARD: dict[str, tuple[type, dict[str, Any]]] = {
    "radam": (surefoot.RectifiedAdam, {}),
    "radam_zero_betas": (surefoot.RectifiedAdam, {"beta_1": 0.0, "beta_2": 0.0}),
    "radam_beta_2_06": (surefoot.RectifiedAdam, {"beta_2": 0.6}),
    "radam_rho_inf_4": (surefoot.RectifiedAdam, {"beta_2": 0.6, "sma_threshold": 3.0}),
    "radam_rho_inf_2": (surefoot.RectifiedAdam, {"beta_2": 1 / 3, "sma_threshold": 0.0}),
    "radam_low_threshold": (surefoot.RectifiedAdam, {"sma_threshold": -5.0}),
    "radam_near_one": (surefoot.RectifiedAdam, {"beta_1": 0.999999, "beta_2": 0.9999999}),
    "radam_no_warmup": (surefoot.RectifiedAdam, {"total_steps": 5, "warmup_proportion": 0}),
    "radam_only_warmup": (surefoot.RectifiedAdam, {"total_steps": 5, "warmup_proportion": 1}),
    "radam_one_step": (surefoot.RectifiedAdam, {"total_steps": 1}),
    "nadam": (surefoot.Nadam, {}),
    "nadam_zero_betas": (surefoot.Nadam, {"beta_1": 0.0, "beta_2": 0.0}),
    "nadam_near_one": (surefoot.Nadam, {"beta_1": 0.999999, "beta_2": 0.9999999}),
    "nadam_fast": (surefoot.Nadam, {"schedule_decay": 1e6}),
    "ranger": (surefoot.Ranger, {"sync_period": 1}),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("name", HARD)
def test_no_nan_is_made_on_the_way(name: str, mode: str) -> None:
    cls, options = HARD[name]
    with detector():
        loop = Loop(cls(**options), [np.ones(2)], mode=mode)
        for iterations in (None, None, 5, 40, 10_000, 1_000_000_000):
            if iterations is not None:
                loop.optimizer.iterations = iterations
            loop.step([np.array([0.5, -0.5])])
            assert np.all(np.isfinite(loop.parameters[0]))
            assert all(np.all(np.isfinite(w)) for w in loop.optimizer.get_weights())


@pytest.mark.backends("tensorflow", "jax")
def test_the_detector_detects() -> None:
    with detector(), pytest.raises(Exception, match=r"(?i)nan"):
        to_numpy(keras.ops.sqrt(keras.ops.convert_to_tensor(-1.0)))
