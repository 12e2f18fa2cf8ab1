"""A regression of a few numbers under `compile` and `fit`, for what does not need real data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from loops import to_numpy

STEPS = 7
"""In an epoch."""


def scaled(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer inside Keras's dynamic loss scaling."""
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)


WRAPPINGS: dict[str, Callable[..., Any]] = {"bare": lambda optimizer: optimizer, "scaled": scaled}
wrapped = pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)


def new_model(optimizer: Any, **how: Any) -> keras.Model:
    """A linear model, always the same at first."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", **how)
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels."""
    inputs = np.random.default_rng(0).normal(size=(4 * STEPS, 3)).astype("float32")
    return inputs, np.sin(inputs.sum(axis=1, keepdims=True))


def fit(model: keras.Model, epochs: int = 1, **how: Any) -> dict[str, list[float]]:
    """Train, and return the logs."""
    logs: dict[str, list[float]] = model.fit(
        *data(), batch_size=4, epochs=epochs, shuffle=False, verbose=0, **how
    ).history
    assert np.all(np.isfinite(logs["loss"]))
    return logs


def state(model: keras.Model) -> list[np.ndarray]:
    """Weights and optimizer."""
    return [*model.get_weights(), *map(to_numpy, model.optimizer.variables)]


def assert_same(one: keras.Model, other: keras.Model) -> None:
    """Weights and optimizers are equal."""
    for ours, theirs in zip(state(one), state(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def close(one: keras.Model, other: keras.Model, tolerance: float = 1e-6) -> None:
    """The weights are, up to a tolerance."""
    for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def apart(one: keras.Model, other: keras.Model) -> float:
    """How far the weights are, the farthest."""
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return max(float(np.max(np.abs(ours - theirs))) for ours, theirs in pairs)
