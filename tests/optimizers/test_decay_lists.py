"""Which variables decay: the lists of TensorFlow Addons' AdamW and SGDW."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import to_numpy

HALVING = {"weight_decay": 0.5, "learning_rate": 0.0}
each = pytest.mark.parametrize("optimizer", [surefoot.AdamW, surefoot.SGDW])


def variables() -> list[keras.Variable]:
    return [keras.Variable(np.ones(2, "float32"), name=name) for name in ("kernel", "bias")]


def step(optimizer: Any, of: list[keras.Variable], **options: Any) -> list[float]:
    pairs = [(keras.ops.ones((2,)), v) for v in of]
    optimizer.apply_gradients(pairs, **options)
    return [float(to_numpy(v)[0]) for v in of]


@each
def test_decay_var_list_goes_before_what_is_excluded(optimizer: Any) -> None:
    both = variables()
    one = optimizer(**HALVING, exclude_from_weight_decay=["bias"])
    assert step(one, both) == [0.5, 1.0]
    assert step(one, both, decay_var_list=[both[1]]) == [0.5, 0.5]
    assert step(one, both) == [0.25, 0.5]
    one.exclude_from_weight_decay(var_names=["kernel"])
    assert step(one, both) == [0.25, 0.25]
    assert one.get_config()["exclude_from_weight_decay"] == ["kernel"]


@each
def test_minimize_passes_it_on(optimizer: Any) -> None:
    both = variables()
    one = optimizer(**HALVING)

    def loss() -> Any:
        return keras.ops.sum(both[0] * both[1])

    one.minimize(loss, both, decay_var_list=both[:1])
    assert [float(to_numpy(v)[0]) for v in both] == [0.5, 1.0]
    with pytest.raises(TypeError, match="decay_list"):
        one.minimize(loss, both, decay_list=both)


@pytest.mark.backends("tensorflow")
def test_a_compiled_function_would_ignore_another_list() -> None:
    import tensorflow as tf

    both = variables()
    one = surefoot.AdamW(**HALVING)
    one.build(both)

    @tf.function
    def decayed() -> None:
        one.apply_gradients([(tf.ones(2), v) for v in both], decay_var_list=both[:1])

    decayed()
    decayed()
    assert [float(to_numpy(v)[0]) for v in both] == [0.25, 1.0]
    with pytest.raises(ValueError, match="decay_var_list"):
        step(one, both)


def test_patterns_are_a_list() -> None:
    with pytest.raises(TypeError, match="'bias'"):
        surefoot.AdamW(0.1, exclude_from_weight_decay="bias")
    with pytest.raises(TypeError, match="7"):
        surefoot.AdamW(0.1, exclude_from_weight_decay=[7])


def test_momentum_that_is_not_kept_is_not_ignored() -> None:
    one = surefoot.SGDW(0.1)
    with pytest.raises(ValueError, match=r"momentum=0\.9"):
        one.momentum = 0.9
    one.momentum = 0.0
    assert surefoot.SGDW(0.1, momentum=0.5).momentum == 0.5
