"""What holds for every optimizer on the rule, without a test of its own.

RectifiedAdam and Nadam are looked at more closely in other files; here they are left out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
import tolerances
from family import ON_THE_RULE, made, plain_scenario
from loops import COMPILED, EAGER_AND_COMPILED, Loop, to_numpy
from optimizers.test_fast_paths import switch_to_plain

OTHERS = [o for o in ON_THE_RULE if o not in (surefoot.RectifiedAdam, surefoot.Nadam)]
each = pytest.mark.parametrize("optimizer", OTHERS, ids=lambda o: o.__name__)


def state(loop: Loop) -> list[np.ndarray]:
    return [*loop.parameters, *(to_numpy(v) for v in loop.optimizer.variables)]


@pytest.mark.once
@each
def test_hyperparameters_are_checked(optimizer: Any) -> None:
    for hyperparameter in optimizer.declared_hyperparameters():
        for wrong in (math.nan, "fast"):
            with pytest.raises((TypeError, ValueError), match=hyperparameter.name):
                made(optimizer, **{hyperparameter.name: wrong})
        one = made(optimizer)
        before = one.get_config()
        with pytest.raises((TypeError, ValueError), match=hyperparameter.name):
            setattr(one, hyperparameter.name, math.nan)
        assert one.get_config() == before


@pytest.mark.once
@each
def test_clone_from_config_and_registered_names(optimizer: Any) -> None:
    one = plain_scenario(optimizer).optimizer()
    again = keras.optimizers.deserialize(keras.optimizers.serialize(one))
    assert type(again) is optimizer
    assert again.get_config() == one.get_config()
    registered = keras.saving.get_registered_object
    assert registered(f"Addons>{optimizer.__name__}") is optimizer


def new_model(optimizer: Any) -> keras.Model:
    keras.utils.set_random_seed(7)
    layers = [keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer, loss="mse")
    return model


def train(model: keras.Model, first: int) -> None:
    random = np.random.default_rng(first)
    for _ in range(3):
        inputs = random.normal(size=(8, 3)).astype("float32")
        model.train_on_batch(inputs, np.sin(inputs.sum(axis=1, keepdims=True)))


@each
def test_saved_on_the_way_it_goes_on_bit_for_bit(optimizer: Any, tmp_path: Path) -> None:
    model = new_model(plain_scenario(optimizer).optimizer())
    start = model.get_weights()
    train(model, 0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    train(model, 1)
    train(loaded, 1)
    arrays = [*model.get_weights(), *model.optimizer.get_weights()]
    others = [*loaded.get_weights(), *loaded.optimizer.get_weights()]
    for ours, theirs in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert all(np.any(a != b) for a, b in zip(start, model.get_weights(), strict=True))


@each
def test_loops_compute_what_operations_of_the_backend_do(
    optimizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends() -> list[np.ndarray]:
        random = np.random.default_rng(0)
        shapes = ((1024, 1040), (7, 3), ())
        loop = Loop(
            plain_scenario(optimizer).optimizer(),
            [random.normal(size=s) for s in shapes],
            mode=COMPILED,
        )
        for _ in range(5):
            loop.step([random.normal(size=s) for s in shapes])
        return loop.parameters

    by_loops = ends()
    switch_to_plain(monkeypatch)
    for ours, theirs in zip(by_loops, ends(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerances.FLOAT32_OF_DISTANCE)


@each
def test_bfloat16_follows_float32(optimizer: Any) -> None:
    run = plain_scenario(optimizer)
    start = [x.astype("bfloat16").astype("float32") for x in run.start()]
    low, full = (
        Loop(run.optimizer(), start, dtype=dtype, mode=COMPILED)
        for dtype in ("bfloat16", "float32")
    )
    for step in range(1, 41):
        gradients = [g.astype("bfloat16").astype("float32") for g in run.gradients(step)]
        low.step(gradients)
        full.step(gradients)
    for ours, theirs in zip(low.parameters, full.parameters, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2.0**-7, atol=1e-6)


@pytest.mark.sampled(len(EAGER_AND_COMPILED))
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@each
def test_a_step_with_nan_is_skipped(optimizer: Any, mode: str) -> None:
    run = plain_scenario(optimizer)
    loop = Loop(made(optimizer, **run.options, nonfinite="skip"), run.start(), mode=mode)
    loop.step(run.gradients(1))
    before = state(loop)
    loop.step([g * np.nan for g in run.gradients(2)])
    assert loop.optimizer.skipped_steps == 1
    unequal = [not np.array_equal(a, b) for a, b in zip(before, state(loop), strict=True)]
    assert sum(unequal) == 1  # the counter of skipped steps


@each
def test_moments_in_bfloat16_follow_those_in_float32(optimizer: Any) -> None:
    """To the share of a step that the rounding of a moment is."""
    run = plain_scenario(optimizer)
    start = [np.random.default_rng(1).normal(size=(60, 50)), np.zeros(40)]
    steps = 12
    loops = []
    for form in ("float32", "bfloat16"):
        loop = Loop(optimizer(**run.options, moments=form), start, mode=COMPILED)
        for step in range(steps):
            random = np.random.default_rng(step)
            loop.step([random.normal(size=x.shape) for x in start])
        loops.append(loop)
    exact, stored = (loop.parameters for loop in loops)
    for one, other, origin in zip(exact, stored, start, strict=True):
        moved = np.sqrt(np.mean((one - origin) ** 2))
        assert 0.0 < np.sqrt(np.mean((one - other) ** 2)) < 0.01 * moved
    dtypes = [str(v.dtype).rpartition(".")[2] for v in loops[1].optimizer.variables]
    assert dtypes.count("bfloat16") >= 2
