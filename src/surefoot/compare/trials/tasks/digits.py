"""Handwritten digits: 1,797 images of 8x8 pixels in scikit-learn (UCI test set)."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from surefoot.compare.trials.task import Task

_VALIDATION_IMAGES = 500


def mlp() -> Task:
    """Two hidden layers of 128 units; the default task, fast on every backend."""

    def model() -> Any:
        return keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(128, activation="relu", kernel_initializer="he_normal"),
                keras.layers.Dense(128, activation="relu", kernel_initializer="he_normal"),
                keras.layers.Dense(10),
            ]
        )

    return _task("digits", "a network of two hidden layers", model)


def cnn() -> Task:
    """Three small convolutions with batch normalization."""

    def model() -> Any:
        layers: list[Any] = [keras.Input((8, 8, 1))]
        for filters, strides in ((16, 1), (32, 2), (32, 1)):
            layers += [
                keras.layers.Conv2D(filters, 3, strides, padding="same", use_bias=False),
                # 400 steps are too few for the default momentum of 0.99.
                keras.layers.BatchNormalization(momentum=0.9),
                keras.layers.ReLU(),
            ]
        return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(10)])

    return _task("digits-cnn", "a small convolutional network", model)


def _task(name: str, what: str, model: Callable[[], Any]) -> Task:
    digits = load_digits()
    images = (digits.images / 16 - 0.3).astype(np.float32)[..., None]
    labels = digits.target.astype(np.int32)
    train_x, validation_x, train_y, validation_y = train_test_split(
        images, labels, test_size=_VALIDATION_IMAGES, random_state=0, stratify=labels
    )
    return Task(
        name=name,
        description=f"Handwritten digits (scikit-learn, 8x8 pixels, 10 classes) with {what}; "
        f"{len(train_x)} images to train on, {len(validation_x)} to validate.",
        model=model,
        train=(train_x, train_y),
        validation=(validation_x, validation_y),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metric="accuracy",
        higher_is_better=True,
        batch_size=64,
        steps=400,
        learning_rates="1e-4:1:8",
    )
