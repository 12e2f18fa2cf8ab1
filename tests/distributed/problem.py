"""One small training that workers share, on every backend.

A step's batch is a function of its number, so that any number of workers, and a run that is
resumed, see the same data. The loss is a mean over the batch: a worker's share of its gradient
is the sum over its rows divided by the size of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import surefoot

STEPS = 7
POISONED = (2, 4)
BATCH = 24
FEATURES = 6
HIDDEN = 8
OUTPUTS = 3
WEIGHTS = FEATURES * HIDDEN + HIDDEN + HIDDEN * OUTPUTS + OUTPUTS

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "RectifiedAdam": lambda **kwargs: surefoot.RectifiedAdam(
        0.02, total_steps=20, warmup_proportion=0.3, weight_decay=0.05, **kwargs
    ),
    "RectifiedAdam without decay": lambda **kwargs: surefoot.RectifiedAdam(0.02, **kwargs),
    "Nadam": lambda **kwargs: surefoot.Nadam(0.02, **kwargs),
    "Ranger": lambda **kwargs: surefoot.Ranger(
        0.02, sync_period=3, total_steps=20, weight_decay=0.05, **kwargs
    ),
    # Rounded at random, by the same bits everywhere.
    "bfloat16 moments": lambda **kwargs: surefoot.Ranger(
        0.02, sync_period=3, moments="bfloat16", slow_weights="bfloat16", **kwargs
    ),
    # Decisions that a worker with a part of the batch would take differently.
    "LAMB": lambda **kwargs: surefoot.LAMB(0.02, weight_decay=0.1, **kwargs),
    "NovoGrad": lambda **kwargs: surefoot.NovoGrad(0.02, weight_decay=0.01, **kwargs),
    "clipped": lambda **kwargs: surefoot.Nadam(0.02, global_clipnorm=0.05, **kwargs),
    "accumulating": lambda **kwargs: surefoot.Ranger(
        0.02, sync_period=2, gradient_accumulation_steps=2, use_ema=True, **kwargs
    ),
    # Keras's optimizer inside of ours.
    "around Adam": lambda **kwargs: surefoot.Lookahead("adam", sync_period=2, **kwargs),
    "averaged": lambda **kwargs: surefoot.SWA("adam", average_period=2, **kwargs),
    "several": lambda **kwargs: surefoot.MultiOptimizer(
        optimizer_specs=[
            {"optimizer": surefoot.Nadam(0.02), "weights": ["kernel"]},
            {"optimizer": "sgd", "weights": ["bias"]},
        ],
        **kwargs,
    ),
}


def batch(step: int, poisoned: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of a step; ``poisoned`` has one NaN, in the last worker's rows."""
    rng = np.random.default_rng(step)
    x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
    y = rng.normal(size=(BATCH, OUTPUTS)).astype("float32")
    if poisoned:
        x[-1, 0] = np.nan
    return x, y


def share(arrays: tuple[np.ndarray, ...], worker: int, workers: int) -> tuple[np.ndarray, ...]:
    """The rows of one worker."""
    size = BATCH // workers
    return tuple(a[worker * size : (worker + 1) * size] for a in arrays)


def model() -> keras.Sequential:
    """The same model with the same weights each time."""
    made = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(HIDDEN, activation="tanh", name="hidden"),
            keras.layers.Dense(OUTPUTS, name="outputs"),
        ]
    )
    rng = np.random.default_rng(0)
    made.set_weights([rng.normal(scale=0.5, size=w.shape) for w in made.get_weights()])
    return made


def loss(predictions: Any, targets: Any) -> Any:
    """Of the rows given, their part of the whole batch's mean."""
    return keras.ops.sum(keras.ops.square(predictions - targets)) / (BATCH * OUTPUTS)


def weights(trained: keras.Model) -> np.ndarray:
    """All weights in one vector."""
    return np.concatenate([w.ravel() for w in trained.get_weights()])


def state(optimizer: Any) -> dict[str, np.ndarray]:
    """The optimizer's state by name."""
    return {key: np.asarray(value) for key, value in optimizer.named_state().items()}
