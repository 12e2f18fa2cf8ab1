"""What a NaN or infinite gradient does: pass through, skip the step, or raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import reference
import surefoot
import tolerances
from loops import EAGER, MODES, Loop, to_numpy
from reference_base import Reference, Rows
from scenarios import f32

OPTIONS = {
    "learning_rate": f32(0.03),
    "beta_1": f32(0.9),
    "beta_2": f32(0.9),
    "epsilon": f32(1e-4),
    "weight_decay": 0.125,
}
OPTIMIZERS: dict[str, tuple[Callable[..., Any], Callable[..., Reference]]] = {
    "radam": (
        lambda **o: surefoot.RectifiedAdam(**OPTIONS, amsgrad=True, **o),
        lambda p, **o: reference.RectifiedAdam(p, **OPTIONS, amsgrad=True, **o),
    ),
    "nadam": (
        lambda **o: surefoot.Nadam(**OPTIONS, **o),
        lambda p, **o: reference.Nadam(p, **OPTIONS, **o),
    ),
    "ranger": (
        lambda **o: surefoot.Ranger(**OPTIONS, sync_period=3, **o),
        lambda p, **o: reference.ranger(p, **OPTIONS, sync_period=3, **o),
    ),
    "lookahead": (
        lambda **o: surefoot.Lookahead(keras.optimizers.SGD(0.125, momentum=0.5), 3, **o),
        lambda p, **o: reference.Lookahead(reference.SGD(p, 0.125, 0.5), 3, **o),
    ),
    "mean": (
        lambda **o: surefoot.SWA(keras.optimizers.SGD(0.125, momentum=0.5), average_period=2, **o),
        lambda p, **o: reference.SWA(reference.SGD(p, 0.125, 0.5), average_period=2, **o),
    ),
}
BAD_STEPS = {1: np.nan, 2: np.inf, 6: -np.inf, 7: np.nan, 11: np.nan}
SHAPES = ((3, 2), (4,))


def start() -> list[np.ndarray]:
    return [np.random.default_rng(0).normal(size=s) for s in SHAPES]


def gradients(step: int) -> list[np.ndarray]:
    random = np.random.default_rng(step)
    values = [random.normal(size=s) for s in SHAPES]
    if step in BAD_STEPS:
        values[step % 2].flat[-1] = BAD_STEPS[step]
    return values


def state(loop: Loop) -> list[np.ndarray]:
    return [*loop.parameters, *(to_numpy(v) for v in loop.optimizer.variables)]


@pytest.mark.sampled(len(MODES))
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_skipped_steps_are_as_if_they_had_not_been(name: str, mode: str) -> None:
    make, follow = OPTIMIZERS[name]
    loop = Loop(make(nonfinite="skip"), start(), dtype="float64", mode=mode)
    plain = follow(start(), nonfinite="skip")
    for step in range(1, 15):
        loop.step(gradients(step))
        plain.apply(gradients(step))
        for ours, theirs in zip(loop.parameters, plain.parameters, strict=True):
            np.testing.assert_allclose(
                ours, theirs, rtol=0, atol=tolerances.REFERENCE_FLOAT64, err_msg=f"step {step}"
            )
        assert int(to_numpy(loop.optimizer.iterations)) == plain.updates
        assert loop.optimizer.skipped_steps == plain.skipped
    assert plain.skipped == len(BAD_STEPS)


@pytest.mark.sampled(len(MODES))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_skipping_changes_nothing_but_the_count(name: str, mode: str) -> None:
    loop = Loop(OPTIMIZERS[name][0](nonfinite="skip"), start(), mode=mode)
    loop.step(gradients(3))
    loop.step(gradients(4))
    before = state(loop)
    loop.step(gradients(7))
    after = state(loop)
    changed = [
        i for i, (a, b) in enumerate(zip(before, after, strict=True)) if not np.array_equal(a, b)
    ]
    assert len(changed) == 1, "only the count of skipped steps changes"
    assert int(after[changed[0]]) == 1


@pytest.mark.sampled(len(MODES))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_raising_names_the_variable_and_changes_nothing(name: str, mode: str) -> None:
    loop = Loop(
        OPTIMIZERS[name][0](nonfinite="raise"), start(), mode=mode, names=["good", "spoiled"]
    )
    loop.step(gradients(3))
    before = state(loop)
    if mode == "xla":  # which can skip, but not raise
        loop.step(gradients(7))
        assert loop.optimizer.skipped_steps == 1
        with pytest.raises(FloatingPointError, match="skipped 1 step"):
            loop.optimizer.finalize_variable_values(loop.variables)
        loop.optimizer.finalize_variable_values(loop.variables)
        return
    with pytest.raises(Exception, match="spoiled") as caught:
        loop.step(gradients(7))
    assert "good" not in str(caught.value).replace("goods", "")
    assert "NaN" in str(caught.value) or "finite" in str(caught.value)
    for was, now in zip(before, state(loop), strict=True):
        np.testing.assert_array_equal(was, now)
    loop.step(gradients(4))
    assert int(to_numpy(loop.optimizer.iterations)) == 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_by_default_nan_passes_through(name: str) -> None:
    loop = Loop(OPTIMIZERS[name][0](), start(), mode=EAGER)
    loop.step(gradients(7))
    assert np.isnan(loop.parameters[1]).any()
    assert int(to_numpy(loop.optimizer.iterations)) == 1
    assert loop.optimizer.skipped_steps == 0


@pytest.mark.parametrize("mode", MODES)
def test_accumulated_nan_is_skipped_alone(mode: str) -> None:
    """A skipped micro-step leaves the sum and the count of micro-steps as they were."""
    make, follow = OPTIMIZERS["radam"]
    options = {"nonfinite": "skip", "gradient_accumulation_steps": 2}
    loop = Loop(make(**options), start(), mode=mode)
    plain = follow(start(), **options)
    for step in range(3, 13):
        loop.step(gradients(step))
        plain.apply(gradients(step))
        for ours, theirs in zip(loop.parameters, plain.parameters, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("lazy", [False, True])
def test_nan_in_a_sparse_gradient(mode: str, lazy: bool) -> None:
    optimizer = surefoot.RectifiedAdam(**OPTIONS, nonfinite="skip", lazy=lazy)
    loop = Loop(optimizer, [np.ones((5, 2))], mode=mode)
    loop.step([Rows(np.array([1, 1, 3]), np.ones((3, 2)))])
    before = loop.parameters[0]
    loop.step([Rows(np.array([1, 2, 3]), np.array([[1, 1], [np.nan, 0], [1, 1.0]]))])
    np.testing.assert_array_equal(loop.parameters[0], before)
    assert optimizer.skipped_steps == 1


@pytest.mark.once
@pytest.mark.parametrize("wrong", ["ignore", None, True])
def test_unknown_choice_is_refused(wrong: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="nonfinite"):
        surefoot.Nadam(nonfinite=wrong)


def test_in_fit() -> None:
    """A batch with NaN in it is skipped, and the model learns from the others."""
    inputs = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    targets = inputs.sum(axis=1, keepdims=True)
    inputs[20] = np.nan
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    model.compile(surefoot.RectifiedAdam(0.1, beta_2=0.9, nonfinite="skip"), "mse")
    model.fit(inputs, targets, batch_size=16, epochs=40, shuffle=False, verbose=0)
    assert model.optimizer.skipped_steps == 40
    np.testing.assert_allclose(to_numpy(model.layers[0].kernel), 1.0, atol=0.05)
