"""The optimizers inside `fit`: a small convolutional network on scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import keras
import numpy as np

import surefoot
from benchmarks.contenders import Running
from benchmarks.floor import floor_pass
from benchmarks.shapes import arrays
from benchmarks.turns import Timing, in_turns

BATCH = 64
REFERENCE = "keras Adam"
OPTIMIZERS: dict[str, Callable[[], Any]] = {
    # The reference takes part itself: how far it is from 1 is the error of the measurement.
    REFERENCE: keras.optimizers.Adam,
    "keras Nadam": keras.optimizers.Nadam,
    "RectifiedAdam": surefoot.RectifiedAdam,
    "Nadam": surefoot.Nadam,
    "Ranger": surefoot.Ranger,
}


@dataclass(frozen=True)
class Fit:
    """Per training step; `share` is the optimizer's part of it, in percent."""

    timing: Timing
    share: float


def _model() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers: list[keras.layers.Layer] = [keras.Input((8, 8, 1))]
    for filters in (32, 64, 128):
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
        ]
    layers += [
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dense(10),
    ]
    return keras.Sequential(layers)


def _running(make: Callable[[], Any], x: np.ndarray, y: np.ndarray) -> Running:
    """One `step` is an epoch: `fit` reads its data and logs once for many updates, as in use."""
    model = _model()
    model.compile(
        optimizer=make(), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return Running(
        lambda: model.fit(x, y, batch_size=BATCH, epochs=1, shuffle=False, verbose=0),
        lambda: None,
    )


def _alone(
    backend: ModuleType, mode: str, names: list[str], rounds: int, seconds: float
) -> dict[str, float]:
    """Milliseconds per step of the optimizers alone, on the model's tensors."""
    shapes = [tuple(weight.shape) for weight in _model().trainable_variables]
    grads = backend.gradients(arrays(shapes, scale=0.01, seed=2))
    contenders = {
        contender.name: (
            contender.build(arrays(shapes, scale=0.05, seed=1), grads),
            contender.period,
        )
        for contender in backend.contenders(mode)
        if contender.name in names
    }
    floor = Running(floor_pass(shapes), lambda: None)
    timings = in_turns(floor, contenders, rounds=rounds, seconds=seconds, warm_up=8)
    return {name: timing.milliseconds[1] for name, timing in timings.items()}


def time_fit(
    backend: ModuleType,
    mode: str,
    *,
    chosen: Callable[[str], bool],
    rounds: int,
    seconds: float,
) -> dict[str, Fit]:
    """Time `fit` with each optimizer against `fit` with Keras's Adam.

    Args:
        backend: Module of the backend in use.
        mode: In which of its modes `fit` runs the optimizer.
        chosen: Which optimizers take part, by name.
        rounds: How often everyone has a turn.
        seconds: How long a turn is at the least.

    Returns:
        By optimizer, the time of one training step and the optimizer's share of it.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    whole = len(images) // BATCH * BATCH  # A last, smaller batch would be compiled apart.
    x = (images[:whole] / 16).astype("float32").reshape(-1, 8, 8, 1)
    y = labels[:whole]
    names = [name for name in OPTIMIZERS if chosen(name)]
    if not names:
        return {}
    epochs = in_turns(
        _running(OPTIMIZERS[REFERENCE], x, y),
        {name: (_running(OPTIMIZERS[name], x, y), 1) for name in names},
        rounds=rounds,
        seconds=seconds,
        warm_up=2,
    )
    alone = _alone(backend, mode, names, rounds, seconds)
    steps = whole // BATCH
    found = {}
    for name, timing in epochs.items():
        low, middle, high = (took / steps for took in timing.milliseconds)
        per_step = Timing((low, middle, high), timing.ratio, timing.rounds)
        found[name] = Fit(per_step, 100 * alone[name] / middle)
    return found
