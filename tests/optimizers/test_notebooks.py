"""What notebooks of 2020 do to an optimizer besides calling its public methods."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import BACKEND, EAGER_AND_COMPILED, Loop, to_numpy

ALL: dict[str, Callable[..., Any]] = {
    "radam": lambda **options: surefoot.RectifiedAdam(0.125, **options),
    "nadam": lambda **options: surefoot.Nadam(0.125, **options),
    "lookahead": lambda **options: surefoot.Lookahead(surefoot.RectifiedAdam(0.125, **options)),
    "ranger": lambda **options: surefoot.Ranger(0.125, **options),
}
each = pytest.mark.parametrize("name", ALL)


def moment_optimizer(optimizer: Any) -> Any:
    """The one that has the moments."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def set_value(variable: Any, value: Any) -> None:
    """`tf.keras.backend.set_value`, as TensorFlow 2.16 and later have it."""
    variable.assign(np.asarray(value, dtype=variable.dtype.name))


# ---- hyperparameters as variables ----

SETTERS: dict[str, Callable[[Any, str, Any], None]] = {
    "assign": lambda optimizer, name, value: getattr(optimizer, name).assign(value),
    "set_value": lambda optimizer, name, value: set_value(getattr(optimizer, name), value),
    "_set_hyper": lambda optimizer, name, value: optimizer._set_hyper(name, value),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("how", SETTERS)
@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@each
def test_a_hyperparameter_is_assigned_to(name: str, mode: str, how: str) -> None:
    """The same numbers as from the attribute, at the next step."""
    loops = [
        Loop(ALL[name](), [np.zeros(3)], mode=mode),
        Loop(ALL[name](), [np.zeros(3)], mode=mode),
    ]
    for loop in loops:
        loop.step([np.array([1.0, -2.0, 3.0])])
    one, other = (moment_optimizer(loop.optimizer) for loop in loops)
    SETTERS[how](one, "beta_1", 0.5)
    other.beta_1 = 0.5
    for loop in loops:
        loop.step([np.array([1.0, 0.5, -3.0])])
    np.testing.assert_array_equal(loops[0].parameters[0], loops[1].parameters[0])
    assert one.beta_1 == 0.5


@each
def test_other_hyperparameters_are_assigned_to(name: str) -> None:
    optimizer = ALL[name]()
    inner = moment_optimizer(optimizer)
    set_value(inner.epsilon, 0.25)
    inner.weight_decay.assign(keras.ops.convert_to_tensor(0.5))
    assert (inner.epsilon, inner.weight_decay) == (0.25, 0.5)
    if hasattr(inner, "total_steps"):
        inner.total_steps.assign(20)
        set_value(inner.total_steps, 30)
        assert inner.total_steps == 30
        assert inner.total_steps.numpy() == 30
    if optimizer is not inner:
        optimizer.sync_period.assign(3)
        set_value(optimizer.slow_step_size, 0.25)
        assert (optimizer.sync_period, optimizer.slow_step_size) == (3, 0.25)
    before = optimizer.get_config()
    with pytest.raises(ValueError, match=r"beta_1=1\.5"):
        inner.beta_1.assign(1.5)
    assert optimizer.get_config() == before
    assert inner.beta_1.numpy() == np.float32(0.9)


def plain_numbers(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(plain_numbers, value.values()))
    return type(value) in (int, float, bool, str, type(None))


@pytest.mark.once
@each
def test_numbers_that_leave_the_optimizer_are_plain(name: str) -> None:
    optimizer = ALL[name]()
    inner = moment_optimizer(optimizer)
    inner.beta_2 = inner.beta_1
    config = optimizer.get_config()
    assert plain_numbers(config)
    assert json.loads(json.dumps(config)) == config
    holders = [inner] if optimizer is inner else [inner, optimizer]
    for holder in holders:
        for hyperparameter in holder.declared_hyperparameters():
            value = getattr(holder, hyperparameter.name)
            for copied in (
                copy.copy(value),
                copy.deepcopy(value),
                pickle.loads(pickle.dumps(value)),
            ):
                assert type(copied) in (int, float)
                assert copied == value
            assert repr(value) == repr(copied)
            assert type(value + 1) in (int, float)
    ours = keras.optimizers.Adam(beta_1=inner.beta_1)
    assert copy.deepcopy(ours.get_config()) == ours.get_config()


def test_a_hyperparameter_is_a_number_to_every_function() -> None:
    beta = surefoot.Nadam().beta_1
    ones = keras.ops.ones((2,))
    for result in (
        *(ones * beta, beta * ones, keras.ops.multiply(ones, beta), keras.ops.multiply(beta, ones)),
        *(keras.ops.where(ones > 0, beta, ones), keras.ops.maximum(0.5 * ones, beta)),
        keras.ops.full((2,), beta),
    ):
        assert keras.backend.standardize_dtype(result.dtype) == "float32"
        np.testing.assert_allclose(to_numpy(result), 0.9, rtol=1e-6)
    assert to_numpy(keras.Variable(beta)) == np.float32(0.9)
    assert 1 - beta == 1 - 0.9
    assert f"{beta:.2f} {beta}" == "0.90 0.9"


# ---- the learning rate ----


@each
def test_the_rate_is_assigned_to(name: str) -> None:
    optimizer = ALL[name]()
    optimizer.lr.assign(0.5)
    assert float(to_numpy(optimizer.learning_rate)) == 0.5
    optimizer.learning_rate.assign(0.25)
    assert float(to_numpy(optimizer.lr)) == 0.25
    optimizer._set_hyper("learning_rate", 0.75)
    assert float(to_numpy(optimizer._get_hyper("learning_rate"))) == 0.75


@pytest.mark.backends("tensorflow")
@each
def test_the_backend_of_tf_keras_reads_and_sets(name: str) -> None:
    from keras._tf_keras.keras import backend as K

    optimizer = ALL[name]()
    inner = moment_optimizer(optimizer)
    K.set_value(optimizer.lr, 0.5)
    assert K.get_value(optimizer.lr) == 0.5
    K.set_value(inner.beta_1, 0.5)
    assert K.get_value(inner.beta_1) == inner.beta_1 == 0.5


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@each
def test_decayed_rate(name: str, mode: str) -> None:
    """Schedule and ``decay``, without warmup and rectification."""
    options = {} if name == "nadam" else {"decay": 0.25, "total_steps": 20}
    loop = Loop(ALL[name](**options), [np.zeros(2)], mode=mode)
    for step in range(3):
        decayed = loop.optimizer._decayed_lr("float32")
        assert keras.backend.standardize_dtype(decayed.dtype) == "float32"
        assert float(decayed) == pytest.approx(0.125 / (1 + options.get("decay", 0) * step))
        loop.step([np.ones(2)])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    optimizer = surefoot.RectifiedAdam(schedule)
    optimizer.iterations = 2
    assert float(optimizer._decayed_lr()) == 0.125
    assert optimizer._get_hyper("learning_rate") is schedule
    adam = surefoot.Lookahead(keras.optimizers.Adam(0.125))
    assert float(adam._decayed_lr("float32")) == 0.125


@each
def test_get_hyper(name: str) -> None:
    optimizer = ALL[name]()
    dtypes = ["float32"]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        dtypes.append(tf.float32)
    assert optimizer._get_hyper("beta_2") == 0.999
    for dtype in dtypes:
        for wanted, known in (("beta_1", 0.9), ("epsilon", 1e-7), ("learning_rate", 0.125)):
            value = optimizer._get_hyper(wanted, dtype)
            assert keras.backend.standardize_dtype(value.dtype) == "float32"
            assert float(value) == pytest.approx(known, rel=1e-6)
    for call in (
        lambda: optimizer._get_hyper("momentum"),
        lambda: optimizer._set_hyper("momentum", 0.5),
    ):
        with pytest.raises(AttributeError, match=r"momentum") as caught:
            call()
        assert "beta_1" in str(caught.value), "the message says which there are"
    scheduled = surefoot.RectifiedAdam(
        weight_decay=keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    )
    assert callable(scheduled._get_hyper("weight_decay"))


@pytest.mark.backends("tensorflow")
def test_get_hyper_in_a_graph_follows_what_is_set_later() -> None:
    import tensorflow as tf

    optimizer = surefoot.Lookahead(surefoot.Nadam())
    read = tf.function(
        lambda: [optimizer._get_hyper(n, tf.float32) for n in ("beta_1", "sync_period")]
    )
    assert [float(x) for x in read()] == pytest.approx([0.9, 6.0])
    optimizer.inner_optimizer.beta_1 = 0.5
    optimizer.sync_period = 3
    assert [float(x) for x in read()] == [0.5, 3.0]


@pytest.mark.parametrize("inner", [surefoot.RectifiedAdam, keras.optimizers.Adam])
def test_the_original_name_of_the_inner_optimizer(inner: Callable[[], Any]) -> None:
    made = inner()
    optimizer = surefoot.Lookahead(made)
    assert optimizer._optimizer is optimizer.inner_optimizer is made
    assert float(to_numpy(optimizer._get_hyper("learning_rate", "float32"))) == np.float32(0.001)
    assert float(to_numpy(optimizer._get_hyper("beta_1", "float32"))) == np.float32(0.9)
    optimizer._set_hyper("beta_1", 0.5)
    assert made.beta_1 == 0.5


@each
def test_a_shared_step_is_copied(name: str) -> None:
    """The original took the variable itself; here what happens to that later does not count."""
    step = keras.Variable(7, dtype="int32", trainable=False)
    optimizer = ALL[name]()
    optimizer.iterations = step
    loop = Loop(optimizer, [np.zeros(2)])
    loop.step([np.ones(2)])
    assert int(to_numpy(step)) == 7
    assert int(to_numpy(optimizer.iterations)) == 8
