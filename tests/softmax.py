"""A softmax regression of scikit-learn's digits: real data, and a gradient of one line.

So a training by ``fit`` can be followed in float64 without a backend.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_digits

from loops import BACKEND

BATCH, BATCHES = 64, 8

WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "not jitted": {"jit_compile": False},
    "eagerly": {"run_eagerly": True},
}
if BACKEND != "torch":  # there it means torch.compile, which takes minutes
    WAYS |= {"jitted": {"jit_compile": True}}


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    count = BATCH * BATCHES
    return (images[:count] / 16).astype("float32"), labels[:count]


def softmax_gradients(
    parameters: list[np.ndarray], images: np.ndarray, labels: np.ndarray
) -> list[np.ndarray]:
    """Gradients of the mean cross-entropy in kernel and bias."""
    kernel, bias = parameters
    logits = images @ kernel + bias
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = likely / likely.sum(axis=1, keepdims=True) - np.eye(10)[labels]
    return [images.T @ error / len(images), error.mean(axis=0)]


def start() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(0, 0.1, (64, 10)).astype("float32"), np.zeros(10, "float32")]


def fitted(
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    *,
    how: dict[str, Any] | None = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    **layer: Any,
) -> list[np.ndarray]:
    """Where ``fit`` takes kernel and bias."""
    model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(10, **layer)])
    model.set_weights(start())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **(how or {}))
    images, labels = digits()
    model.fit(
        images,
        labels,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model.get_weights()
