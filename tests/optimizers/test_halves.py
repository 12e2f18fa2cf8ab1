"""A bfloat16 variable is the upper half of its float32 master, of which only the rest is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest

import reference
import surefoot
import tolerances
from loops import EAGER, EAGER_AND_COMPILED, MODES, Loop, to_numpy
from reference_base import Reference

SHAPES = ((40, 30), (70,), ())
OPTIONS = {"learning_rate": 2.0**-10, "weight_decay": 0.125, "beta_1": 0.875, "beta_2": 0.9375}
CASES: dict[str, tuple[Callable[..., Any], Callable[..., Reference]]] = {
    "radam": (lambda **o: surefoot.RectifiedAdam(**OPTIONS, **o), reference.RectifiedAdam),
    "nadam": (lambda **o: surefoot.Nadam(**OPTIONS, **o), reference.Nadam),
    "ranger": (
        lambda **o: surefoot.Ranger(**OPTIONS, sync_period=3, **o),
        lambda p, **o: reference.ranger(p, sync_period=3, **o),
    ),
}
STEPS = 40
HALF = 1 << 15


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.asarray(values).astype(ml_dtypes.bfloat16), np.float32)


def start() -> list[np.ndarray]:
    return [to_bfloat16(np.random.default_rng(1).normal(size=s)) for s in SHAPES]


def gradients(step: int) -> list[np.ndarray]:
    random = np.random.default_rng(step)
    return [to_bfloat16(random.normal(size=s)) for s in SHAPES]


def inner(optimizer: Any) -> Any:
    return getattr(optimizer, "inner_optimizer", optimizer)


def masters(loop: Loop) -> list[np.ndarray]:
    """Variables and the rest put together, by whole numbers."""
    found = []
    for variable in loop.variables:
        lower = to_numpy(inner(loop.optimizer).get_slot(variable, "master"))
        assert lower.dtype == np.int16
        upper = to_numpy(variable).astype(np.float32)
        bits = upper.view(np.uint32).astype(np.int64) + lower
        found.append(bits.astype(np.uint32).view(np.float32).astype(np.float64))
    return found


@pytest.mark.parametrize("has_loops", [True, False])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(2)
def test_masters_are_float32(
    name: str, mode: str, has_loops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps far below the resolution of bfloat16 are as exact as those of float32 variables."""
    if not has_loops:
        monkeypatch.setenv("SUREFOOT_LOOPS", "0")
    build, build_reference = CASES[name]
    loop = Loop(build(), start(), dtype="bfloat16", mode=mode)
    plain = build_reference(start(), **OPTIONS)
    for step in range(STEPS):
        loop.step(gradients(step))
        plain.apply(gradients(step))
    for mine, right, variable, origin in zip(
        masters(loop), plain.parameters, loop.parameters, start(), strict=True
    ):
        bound = tolerances.float32_bound(origin, right, STEPS)
        np.testing.assert_allclose(mine, right, rtol=0, atol=bound)
        gap = np.spacing(np.abs(mine).astype(ml_dtypes.bfloat16)).astype(float)
        assert np.all(np.abs(mine - variable) <= gap / 2 * (1 + 1e-6))


def written(values: np.ndarray, lower: np.ndarray) -> Loop:
    """A loop at given halves, before a step of a rate of zero."""
    loop = Loop(surefoot.RectifiedAdam(0.0), [np.ones(len(values))], dtype="bfloat16")
    loop.step([np.zeros(len(values))])
    (variable,) = loop.variables
    variable.assign(keras.ops.convert_to_tensor(values, dtype="bfloat16"))
    loop.optimizer.get_slot(variable, "master").assign(
        keras.ops.convert_to_tensor(lower, dtype="int16")
    )
    return loop


@pytest.mark.parametrize("has_loops", [True, False])
def test_what_is_assigned_stays_whatever_the_rest_is(
    has_loops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros, large and small ones, with the lower half of another number beside them."""
    if not has_loops:
        monkeypatch.setenv("SUREFOOT_LOOPS", "0")
    special = [0.0, -0.0, 1.0, -1.0, 2.0**-100, -(2.0**-100), 3.3e38]
    rests = [-HALF, -5, -1, 0, 1, 5, HALF - 1]
    values, lower = (a.ravel() for a in np.meshgrid(special, rests))
    values = to_bfloat16(values)
    loop = written(values, lower)
    loop.step([np.zeros(len(values))])
    np.testing.assert_array_equal(loop.parameters[0], values)


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
def test_a_value_assigned_from_outside_is_what_training_goes_on_from(mode: str) -> None:
    loop = Loop(CASES["nadam"][0](), start(), dtype="bfloat16", mode=mode)
    for step in range(5):
        loop.step(gradients(step))
    assigned = [to_bfloat16(3.0 * p + 1.0) for p in start()]
    for variable, value in zip(loop.variables, assigned, strict=True):
        variable.assign(keras.ops.convert_to_tensor(value, dtype="bfloat16"))
    for mine, value in zip(masters(loop), assigned, strict=True):
        gap = np.spacing(np.abs(value).astype(ml_dtypes.bfloat16)).astype(float)
        assert np.all(np.abs(mine - value) <= gap / 2)


def test_masters_of_the_older_form_load(tmp_path: Path) -> None:
    """They were whole float32 numbers: of these the lower halves are taken."""

    def model() -> keras.Model:
        keras.utils.set_random_seed(3)
        made = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(5, dtype="bfloat16")])
        made.compile(surefoot.RectifiedAdam(1e-3), "mse")
        return made

    x = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
    trained = model()
    for _ in range(8):
        trained.train_on_batch(x, x[:, :5])
    state = dict(trained.optimizer.named_state())
    for key in [k for k in state if k.startswith("master|")]:
        variable = next(v for v in trained.trainable_variables if key.endswith(v.name))
        upper = to_numpy(variable).astype(np.float32).view(np.int32)
        state[key] = (upper + state[key].astype(np.int32)).view(np.float32)
    loaded = model()
    loaded.optimizer.build(loaded.trainable_variables)
    loaded.set_weights(trained.get_weights())
    loaded.optimizer.load_own_variables(state)
    for one, other in zip(trained.optimizer.variables, loaded.optimizer.variables, strict=True):
        if "measurement" not in one.path:
            np.testing.assert_array_equal(to_numpy(one), to_numpy(other))


def test_float16_variables_keep_a_whole_master() -> None:
    loop = Loop(surefoot.Nadam(), [np.ones(3)], dtype="float16", mode=EAGER)
    loop.step([np.ones(3)])
    assert to_numpy(loop.optimizer.get_slot(loop.variables[0], "master")).dtype == np.float32
