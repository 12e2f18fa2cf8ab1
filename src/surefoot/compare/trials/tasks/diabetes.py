"""Progression of diabetes after a year, from ten measurements of 442 patients (scikit-learn)."""

from typing import Any

import keras
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from surefoot.compare.trials.task import Task

_VALIDATION_PATIENTS = 142


def regression() -> Task:
    """One hidden layer; the target is standardized, so predicting its mean has a loss of 1."""
    inputs, progression = load_diabetes(return_X_y=True)
    inputs = (inputs / inputs.std(axis=0)).astype(np.float32)
    train_x, validation_x, train_y, validation_y = train_test_split(
        inputs, progression, test_size=_VALIDATION_PATIENTS, random_state=0
    )
    mean, deviation = train_y.mean(), train_y.std()

    def standardized(target: Any) -> Any:
        return ((target - mean) / deviation).astype(np.float32)[:, None]

    def model() -> Any:
        return keras.Sequential(
            [
                keras.Input((inputs.shape[1],)),
                keras.layers.Dense(32, activation="tanh"),
                keras.layers.Dense(1),
            ]
        )

    return Task(
        name="diabetes",
        description=f"Progression of diabetes after a year (scikit-learn), a regression with one "
        f"hidden layer; {len(train_x)} patients to train on, {len(validation_x)} to validate. "
        f"The loss is the squared error divided by the variance: predicting the mean gives 1.",
        model=model,
        train=(train_x, standardized(train_y)),
        validation=(validation_x, standardized(validation_y)),
        loss="mean_squared_error",
        batch_size=32,
        steps=300,
    )
