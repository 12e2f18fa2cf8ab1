"""``compile`` and ``fit`` on real data against the same training written out in NumPy.

The model is a softmax regression of scikit-learn's digits, whose gradient is a line of
algebra, so that the whole training can be followed in float64 without a backend.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import reference
import surefoot
import tolerances
from loops import to_numpy
from reference_base import Reference
from softmax import BATCH, BATCHES, WAYS, digits, fitted, softmax_gradients, start


def followed(
    run: Reference,
    epochs: int,
    *,
    before_epoch: Callable[[int], None] = lambda epoch: None,
    constraint: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Where the reference takes them."""
    images, labels = (np.asarray(array) for array in digits())
    for epoch in range(epochs):
        before_epoch(epoch)
        for i in range(0, len(images), BATCH):
            batch = images[i : i + BATCH].astype(float), labels[i : i + BATCH]
            run.apply(softmax_gradients(run.parameters, *batch))
            if constraint is not None:
                run.parameters[0][...] = constraint(run.parameters[0])
    return run.parameters


def agree(now: list[np.ndarray], right: list[np.ndarray]) -> None:
    for ours, theirs, origin in zip(now, right, start(), strict=True):
        distance = np.max(np.abs(theirs - origin))
        assert distance > 1e-3
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerances.FIT_OF_DISTANCE * distance)


OPTIONS = {"learning_rate": 0.01, "beta_2": 0.95, "epsilon": 1e-5, "weight_decay": 0.1}
PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "radam": (
        functools.partial(surefoot.RectifiedAdam, **OPTIONS, amsgrad=True, total_steps=20),
        lambda p: reference.RectifiedAdam(p, **OPTIONS, amsgrad=True, total_steps=20),
    ),
    "nadam": (
        functools.partial(surefoot.Nadam, **OPTIONS),
        lambda p: reference.Nadam(p, **OPTIONS),
    ),
    "ranger": (
        functools.partial(surefoot.Ranger, **OPTIONS, clipnorm=0.1),
        lambda p: reference.ranger(p, **OPTIONS, clipnorm=0.1),
    ),
    "lookahead": (
        lambda: surefoot.Lookahead(keras.optimizers.SGD(0.1, momentum=0.9), 5),
        lambda p: reference.Lookahead(reference.SGD(p, 0.1, 0.9), 5),
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PAIRS)
def test_fit(name: str, way: str) -> None:
    make, follow = PAIRS[name]
    agree(fitted(make(), 2, how=WAYS[way]), followed(follow(start()), 2))


@pytest.mark.backends("tensorflow", "jax")
@pytest.mark.parametrize("name", PAIRS)
def test_several_steps_in_one_call(name: str) -> None:
    make, follow = PAIRS[name]
    agree(fitted(make(), 2, how={"steps_per_execution": 3}), followed(follow(start()), 2))


@pytest.mark.parametrize("name", PAIRS)
def test_inside_a_loss_scale_optimizer(name: str) -> None:
    make, follow = PAIRS[name]
    optimizer = keras.optimizers.LossScaleOptimizer(make(), initial_scale=1024.0)
    agree(fitted(optimizer, 2), followed(follow(start()), 2))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_learning_rate_scheduler(name: str, wrapped: bool) -> None:
    """Also through LossScaleOptimizer: the rate that is set is the rate of the next epoch."""
    make, follow = PAIRS[name]
    rates = [0.03125, 0.0078125]
    optimizer = make()
    if wrapped:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch])
    run = follow(start())

    def set_rate(epoch: int) -> None:
        getattr(run, "inner", run).learning_rate = rates[epoch]

    agree(fitted(optimizer, 2, callbacks=[scheduler]), followed(run, 2, before_epoch=set_rate))
    assert float(to_numpy(optimizer.learning_rate)) == rates[-1]


@pytest.mark.parametrize("name", PAIRS)
def test_reduce_on_plateau(name: str) -> None:
    """Nothing improves by 1000, so that the rate is quartered after every epoch but one."""
    make, follow = PAIRS[name]
    optimizer = make()
    before = float(to_numpy(optimizer.learning_rate))
    plateau = keras.callbacks.ReduceLROnPlateau(
        "loss", factor=0.25, patience=1, min_delta=1000.0, min_lr=0.0
    )
    run = follow(start())

    def set_rate(epoch: int) -> None:
        getattr(run, "inner", run).learning_rate = before * 0.25 ** max(0, epoch - 1)

    agree(fitted(optimizer, 3, callbacks=[plateau]), followed(run, 3, before_epoch=set_rate))
    assert float(to_numpy(optimizer.learning_rate)) == pytest.approx(before / 16, rel=1e-6)


class OneCycle(keras.callbacks.Callback):
    """Momentum down and up again, as one-cycle callbacks write it on every batch."""

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.model.optimizer.beta_1 = 0.5 + batch / 16


@pytest.mark.parametrize("name", ["radam", "nadam", "ranger"])
def test_one_cycle_callback_on_beta_1(name: str) -> None:
    make, follow = PAIRS[name]
    run = follow(start())
    images, labels = digits()
    for i in range(BATCHES):
        getattr(run, "inner", run).beta_1 = 0.5 + i / 16
        part = slice(i * BATCH, (i + 1) * BATCH)
        run.apply(softmax_gradients(run.parameters, images[part].astype(float), labels[part]))
    agree(fitted(make(), 1, callbacks=[OneCycle()]), run.parameters)


@pytest.mark.parametrize("name", PAIRS)
def test_constraint_of_a_layer(name: str) -> None:
    make, follow = PAIRS[name]
    now = fitted(make(), 2, kernel_constraint="non_neg")
    right = followed(follow(start()), 2, constraint=lambda kernel: np.maximum(kernel, 0))
    assert now[0].min() == 0
    agree(now, right)


def network() -> keras.Sequential:
    return keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(16, activation="relu", name="first"),
            keras.layers.Dense(10, name="last"),
        ]
    )


@pytest.mark.parametrize("name", PAIRS)
def test_frozen_layer_does_not_move(name: str) -> None:
    model = network()
    model.get_layer("first").trainable = False
    before = model.get_weights()
    model.compile(PAIRS[name][0](), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*digits(), batch_size=BATCH, epochs=1, verbose=0)
    after = model.get_weights()
    for i in (0, 1):
        np.testing.assert_array_equal(before[i], after[i])
    for i in (2, 3):
        assert np.max(np.abs(before[i] - after[i])) > 1e-3
    # the iterations, Nadam's cache, and each slot of two variables
    assert (
        len(model.optimizer.get_weights())
        == {
            "radam": 1 + 3 * 2,
            "nadam": 2 + 2 * 2,
            "ranger": 1 + 3 * 2,
            "lookahead": 1 + 2 * 2,
        }[name]
    )


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", PAIRS)
def test_real_data_is_learned(name: str) -> None:
    """Not a test of numbers: the whole of it does what it is for."""
    images, labels = load_digits(return_X_y=True)
    model = network()
    model.compile(
        PAIRS[name][0](),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    if name in ("radam", "nadam", "ranger"):
        model.optimizer.weight_decay = 0.0
    if name == "radam":
        model.optimizer.total_steps = 0
    model.fit(images[:1500] / 16, labels[:1500], batch_size=50, epochs=8, verbose=0)
    _, accuracy = model.evaluate(images[1500:] / 16, labels[1500:], verbose=0)
    assert accuracy > 0.85
