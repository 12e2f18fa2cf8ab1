"""State that arrives before the optimizer is built waits for that: nothing loaded is lost."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import continuing
import surefoot
from loops import BACKEND, Loop, to_numpy

MAKE: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "radam": lambda: surefoot.RectifiedAdam(0.02, beta_2=0.95),
    "nadam": lambda: surefoot.Nadam(0.02),
    "lookahead": lambda: surefoot.Lookahead(keras.optimizers.Adam(0.02), 4),
    "ranger": lambda: surefoot.Ranger(0.02, sync_period=4),
    "mean": lambda: surefoot.SWA(keras.optimizers.Adam(0.02), average_period=2),
}
INPUTS = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
TARGETS = np.sin(INPUTS.sum(axis=1, keepdims=True))
HALF = 3


def fresh_model(optimizer: keras.optimizers.Optimizer) -> keras.Model:
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer, "mse")
    return model


def by_fit(model: keras.Model) -> None:
    model.fit(INPUTS, TARGETS, batch_size=8, epochs=HALF, shuffle=False, verbose=0)


def by_batches(model: keras.Model) -> None:
    for _ in range(HALF):
        model.train_on_batch(INPUTS, TARGETS)


def by_function(model: keras.Model, **how: Any) -> None:
    import tensorflow as tf

    @tf.function(**how)
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(INPUTS) - TARGETS) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    for _ in range(HALF):
        step()


TRAINED_BY: dict[str, Callable[[keras.Model], None]] = {"fit": by_fit, "batches": by_batches}
if BACKEND == "tensorflow":
    TRAINED_BY |= {
        "function": by_function,
        "xla": lambda model: by_function(model, jit_compile=True),
    }


def through_a_file(model: keras.Model, name: str, folder: Path) -> keras.Model:
    model.save_weights(folder / "half.weights.h5")
    again = fresh_model(MAKE[name]())
    again.load_weights(folder / "half.weights.h5")
    return again


def through_a_pickle(model: keras.Model, name: str, folder: Path) -> keras.Model:
    again = fresh_model(pickle.loads(pickle.dumps(model.optimizer)))
    again.set_weights(model.get_weights())
    return again


def stored(optimizer: Any) -> dict[str, np.ndarray]:
    """Everything that an optimizer would save."""
    store: dict[str, np.ndarray] = {}
    optimizer.save_own_variables(store)
    return {key: np.array(value) for key, value in store.items()}


def assert_equal(now: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert now.keys() == right.keys()
    for key, value in right.items():
        np.testing.assert_array_equal(now[key], value, err_msg=key)


@pytest.mark.sampled(len(MAKE))
@pytest.mark.parametrize("through", [through_a_file, through_a_pickle])
@pytest.mark.parametrize("by", TRAINED_BY)
@pytest.mark.parametrize("name", MAKE)
def test_state_waits_for_a_step_that_builds(
    name: str,
    by: str,
    through: Callable[[keras.Model, str, Path], keras.Model],
    tmp_path: Path,
) -> None:
    """The moments must not be assigned in the trace of the step, nor forgotten after it."""
    train = TRAINED_BY[by]
    model = fresh_model(MAKE[name]())
    train(model)
    again = through(model, name, tmp_path)
    assert not again.optimizer.built
    train(model)
    train(again)
    for whole, halves in zip(
        continuing.everything(model), continuing.everything(again), strict=True
    ):
        np.testing.assert_array_equal(halves, whole)


@pytest.mark.parametrize("name", MAKE)
def test_state_that_does_not_fit_stays_an_error(name: str) -> None:
    """Also at the second step, which finds the optimizer built."""
    loop = Loop(MAKE[name](), [np.ones((3, 2)), np.ones(2)])
    loop.step([np.ones((3, 2)), np.ones(2)])
    again = pickle.loads(pickle.dumps(loop.optimizer))
    other = Loop(again, [np.ones((4, 2)), np.ones(2)])
    for _ in range(2):
        with pytest.raises(ValueError, match="does not match its variables"):
            other.step([np.ones((4, 2)), np.ones(2)])
        assert all(np.all(p == 1) for p in other.parameters)


@pytest.mark.parametrize("name", MAKE)
def test_state_that_would_be_lost_in_a_stateless_step_is_an_error(name: str) -> None:
    loop = Loop(MAKE[name](), [np.ones(3)])
    loop.step([np.ones(3)])
    loop.optimizer.build(loop.variables)
    state = {k: np.array(v) for k, v in stored(loop.optimizer).items()}
    before = stored(loop.optimizer)
    with keras.StatelessScope(), pytest.raises(RuntimeError, match="lost"):
        loop.optimizer.load_own_variables({k: v * 2 for k, v in state.items()})
    assert_equal(stored(loop.optimizer), before)


@pytest.mark.parametrize("name", MAKE)
def test_a_deep_copy_of_a_model_goes_on_alone(name: str) -> None:
    """What steps have found out about the original's variables is not the copy's."""
    model = fresh_model(MAKE[name]())
    model.fit(INPUTS, TARGETS, epochs=HALF, shuffle=False, verbose=0)
    twin = copy.deepcopy(model)
    twin.fit(INPUTS, TARGETS, epochs=HALF, shuffle=False, verbose=0)
    ended = [to_numpy(v) for v in (*twin.variables, *twin.optimizer.variables)]
    model.fit(INPUTS, TARGETS, epochs=HALF, shuffle=False, verbose=0)
    for one, other in zip(ended, (*model.variables, *model.optimizer.variables), strict=True):
        np.testing.assert_array_equal(one, to_numpy(other))
    for one, other in zip(ended, (*twin.variables, *twin.optimizer.variables), strict=True):
        np.testing.assert_array_equal(one, to_numpy(other))


@pytest.mark.backends("tensorflow")
def test_slot_added_in_a_trace_gets_its_values_once() -> None:
    import tensorflow as tf

    optimizer = surefoot.RectifiedAdam()
    weight = keras.Variable(np.ones(2, "float32"))

    @tf.function
    def count() -> None:
        optimizer.add_slot(weight, "seen", np.full(2, 5.0, "float32")).assign_add(tf.ones(2))

    for _ in range(3):
        count()
    np.testing.assert_array_equal(to_numpy(optimizer.get_slot(weight, "seen")), [8.0, 8.0])
