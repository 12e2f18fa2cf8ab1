"""Variables and gradients of TensorFlow that leave their shape open, as those of 2020 could."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import Loop, to_numpy

pytestmark = pytest.mark.backends("tensorflow")

ALL = {
    "radam": surefoot.RectifiedAdam,
    "nadam": surefoot.Nadam,
    "ranger": surefoot.Ranger,
}
OPEN_SHAPES = {"length": [None], "all": None}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("shape", OPEN_SHAPES)
@pytest.mark.parametrize("name", ALL)
def test_variable_with_an_open_shape(name: str, shape: str, mode: str) -> None:
    """Its slots have the shape that it has; what does not fit later is refused."""
    import tensorflow as tf

    start = np.array([1.0, 2.0, 3.0], "float32")
    variable = tf.Variable(start, shape=tf.TensorShape(OPEN_SHAPES[shape]), name="open")
    optimizer = ALL[name](0.125, weight_decay=0.25)
    loop = Loop(ALL[name](0.125, weight_decay=0.25), [start])

    def step(gradient: Any) -> None:
        optimizer.apply_gradients([(gradient, variable)])

    if mode != "eager":
        step = tf.function(
            step, jit_compile=mode == "xla", input_signature=[tf.TensorSpec([None], tf.float32)]
        )
    for number in range(7):
        gradient = np.array([1.0, -1.0, 0.5], "float32") * (number + 1)
        step(tf.constant(gradient))
        loop.step([gradient])
    np.testing.assert_allclose(variable.numpy(), loop.parameters[0], rtol=0, atol=1e-6)
    assert all(w.shape in ((), (3,)) for w in optimizer.get_weights())

    def slots() -> list[np.ndarray]:
        """Without the scalars, which a graph has already advanced when it fails."""
        return [w for w in optimizer.get_weights() if w.ndim or mode != "graph"]

    trained = variable.numpy()
    for size in (4, 1):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="shape"):
            step(tf.ones(size))
        np.testing.assert_array_equal(variable.numpy(), trained)
    weights = slots()
    for size in (4, 1):
        variable.assign(np.ones(size))
        match = r"\(3,\).*built.*new optimizer" if mode == "eager" else "shape"
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=match):
            step(tf.ones(size))
        np.testing.assert_array_equal(variable.numpy(), 1)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="shape"):
        step(tf.ones(3))
    for ours, theirs in zip(slots(), weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_table_with_an_open_number_of_rows() -> None:
    import tensorflow as tf

    table = tf.Variable(np.ones((4, 2), "float32"), shape=[None, 2])
    optimizer = surefoot.RectifiedAdam(0.5)
    rows = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([3]), tf.constant([4, 2]))
    optimizer.apply_gradients([(rows, table)])
    np.testing.assert_array_equal(table.numpy()[:, 0], [1, 1, 1, 0.5])
    beyond = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([4]), tf.constant([4, 2]))
    with pytest.raises(ValueError, match=r"\[0, 4\)"):
        optimizer.apply_gradients([(beyond, table)])


def test_a_gradient_whose_shape_is_open_in_a_graph_is_not_broadcast() -> None:
    import tensorflow as tf

    variable = keras.Variable(np.ones(3, "float32"))
    optimizer = surefoot.Nadam(gradient_accumulation_steps=2)
    step = tf.function(
        lambda gradient: optimizer.apply([gradient], [variable]),
        input_signature=[tf.TensorSpec([None], tf.float32)],
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="shape"):
        step(tf.ones(1))
    step(tf.ones(3))
    step(tf.ones(3))
    assert to_numpy(variable)[0] < 1
