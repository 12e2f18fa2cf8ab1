"""The methods of the 2020 reference pages that differentiate a loss, on every backend."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from loops import to_numpy
from optimizers.test_optimizer_v2 import each, trained


def quadratic(variables: list[Any]) -> Any:
    """Half the squared distance to three: its gradient is the distance."""
    return 0.5 * sum(keras.ops.sum((v - 3.0) ** 2) for v in variables)


@pytest.mark.sampled(3)
@each
@pytest.mark.parametrize("form", ["list", "tuple", "callable"])
def test_minimize(name: str, form: str) -> None:
    one, other = trained(name, steps=0), trained(name, steps=0)
    variables = {
        "list": one.variables,
        "tuple": tuple(one.variables),
        "callable": lambda: one.variables,
    }[form]
    for _ in range(3):
        other.step([p - 3.0 for p in other.parameters])
        one.optimizer.minimize(lambda: quadratic(one.variables), variables)
    for ours, theirs in zip(one.parameters, other.parameters, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert int(to_numpy(one.optimizer.iterations)) == 3


@each
def test_minimize_weighs_the_loss_by_grad_loss(name: str) -> None:
    one, other = trained(name, steps=0), trained(name, steps=0)
    other.step([0.25 * (p - 3.0) for p in other.parameters])
    one.optimizer.minimize(
        lambda: quadratic(one.variables), one.variables, grad_loss=keras.ops.array(0.25)
    )
    for ours, theirs in zip(one.parameters, other.parameters, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@each
def test_minimize_refuses_what_is_no_variable(name: str) -> None:
    loop = trained(name)
    before = loop.parameters
    with pytest.raises(ValueError, match=r"[Vv]ariable"):
        loop.optimizer.minimize(lambda: quadratic(loop.variables), [np.ones(3)])
    with pytest.raises(TypeError, match="loss"):
        loop.optimizer.minimize(quadratic(loop.variables), loop.variables)
    for ours, theirs in zip(loop.parameters, before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.sampled(2)
@pytest.mark.backends("tensorflow")
@pytest.mark.parametrize("how", ["graph", "xla"])
@each
def test_minimize_compiled(name: str, how: str) -> None:
    import tensorflow as tf

    one, other = trained(name, steps=0), trained(name, steps=0)
    one.optimizer.build(one.variables)

    @tf.function(jit_compile=how == "xla")
    def step() -> None:
        one.optimizer.minimize(lambda: quadratic(one.variables), one.variables)

    for _ in range(2):
        other.step([p - 3.0 for p in other.parameters])
        step()
    for ours, theirs in zip(one.parameters, other.parameters, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.backends("tensorflow")
@each
def test_get_gradients_and_get_updates_in_a_function(name: str) -> None:
    import tensorflow as tf

    one, other = trained(name, steps=0), trained(name, steps=0)
    one.optimizer.build(one.variables)

    @tf.function
    def step() -> Any:
        loss = quadratic(one.variables)
        gradients = one.optimizer.get_gradients(loss, one.variables)
        updates = one.optimizer.get_updates(loss, one.variables)
        assert isinstance(updates, list)
        return gradients

    expected = [p - 3.0 for p in other.parameters]
    for ours, theirs in zip(step(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    other.step(expected)
    for ours, theirs in zip(one.parameters, other.parameters, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)

    @tf.function
    def unrelated() -> None:
        one.optimizer.get_gradients(tf.constant(1.0), one.variables)

    with pytest.raises(ValueError, match=r"[Gg]radient"):
        unrelated()


@pytest.mark.backends("tensorflow", "jax")
@each
def test_get_gradients_outside_says_what_to_call(name: str) -> None:
    loop = trained(name)
    with pytest.raises(RuntimeError, match="minimize"):
        loop.optimizer.get_gradients(quadratic(loop.variables), loop.variables)
