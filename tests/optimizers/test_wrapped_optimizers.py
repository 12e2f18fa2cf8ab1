"""Lookahead around any optimizer of Keras: those that are made of others, and those not built."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import to_numpy
from regression import apart, assert_same, close, fit, new_model, scaled
from softmax import WAYS

# ---- saved before the first step ----


def several() -> keras.optimizers.Optimizer:
    by_path = keras.optimizers.OptimizerMap(keras.optimizers.Adam(0.05))
    by_path[".*bias"] = keras.optimizers.SGD(0.25)
    return keras.optimizers.MultiOptimizer(by_path)


FOREIGN: dict[str, Callable[[], Any]] = {
    "adam": lambda: "adam",
    "sgd": keras.optimizers.SGD,
    "scheduled": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)
    ),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), 8.0),
    "several": several,
    "nadam": surefoot.Nadam,
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("form", ["model.keras", "model.weights.h5"])
@pytest.mark.parametrize("inner", FOREIGN)
def test_lookahead_saved_before_its_first_step(inner: str, form: str, tmp_path: Path) -> None:
    """A fresh start with the weights, the rate and the step that were saved."""

    def new() -> keras.Model:
        return new_model(surefoot.Lookahead(FOREIGN[inner](), 3))

    model, path = new(), tmp_path / form
    if inner not in ("several", "scheduled"):
        model.optimizer.learning_rate = 0.125
    model.optimizer.iterations = 2
    (model.save if form.endswith("keras") else model.save_weights)(path)
    for is_built in (False, True):
        loaded = new()
        if form.endswith("keras"):
            loaded = keras.models.load_model(path)
        else:
            if is_built:
                loaded.optimizer.build(loaded.trainable_variables)
            loaded.load_weights(path)
        if inner != "several":
            for optimizer in (loaded.optimizer, model.optimizer):
                rate = 0.1 * 0.5 ** (2 / 5) if inner == "scheduled" else 0.125
                assert float(to_numpy(optimizer.learning_rate)) == pytest.approx(rate, rel=1e-6)
        assert int(to_numpy(loaded.optimizer.inner_optimizer.iterations)) == 2
        one, other = new(), loaded
        one.optimizer.iterations = 2
        if inner not in ("several", "scheduled"):
            one.optimizer.learning_rate = 0.125
        fit(one)
        fit(other)
        close(other, one)
        assert apart(one, model) > 1e-3


# ---- around an optimizer that has several ----


@pytest.mark.parametrize("missing", [None, 0])
def test_lookahead_around_a_multi_optimizer(missing: int | None) -> None:
    """It moves as the parts alone, and after three steps half the way back."""
    start = [np.ones((2, 3), "float32"), np.ones(3, "float32")]
    moved = []
    for wrap in (lambda optimizer: optimizer, lambda o: surefoot.Lookahead(o, sync_period=3)):
        by_path = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.25, momentum=0.5))
        by_path["gain"] = keras.optimizers.SGD(0.25)
        optimizer = wrap(keras.optimizers.MultiOptimizer(by_path))
        names = ("kernel", "bias", "gain")
        variables = [
            keras.Variable(value, name=name)
            for name, value in zip(names, [*start, np.ones(3, "float32")], strict=True)
        ]
        optimizer.build(variables)
        gradients = [keras.ops.ones(v.shape) for v in variables]
        if missing is not None:
            gradients[missing] = None
        for _ in range(3):
            with (
                pytest.warns(UserWarning, match="Gradients do not exist")
                if missing is not None
                else contextlib.nullcontext()
            ):
                optimizer.apply(gradients, variables)
        moved.append([to_numpy(v) for v in variables])
    for alone, wrapped_one in zip(*moved, strict=True):
        np.testing.assert_allclose(wrapped_one, 1 + 0.5 * (alone - 1), rtol=1e-6)
    np.testing.assert_allclose(moved[0][2], 0.25)


def test_lookahead_around_a_multi_optimizer_in_fit(tmp_path: Path) -> None:
    model = new_model(surefoot.Lookahead(several(), 3))
    before = new_model(surefoot.Lookahead(several(), 3))
    logs = fit(model, callbacks=[surefoot.OptimizerDiagnostics()])
    assert logs["gradient_norm"][0] > 0
    assert np.isnan(logs["effective_learning_rate"][0])
    assert apart(model, before) > 1e-3
    for read in (lambda o: o.learning_rate, lambda o: o.lr):
        with pytest.raises(AttributeError, match=r"inner_optimizer\.optimizers\[0\]"):
            read(model.optimizer)
    assert not hasattr(model.optimizer, "learning_rate")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded, model)
    model.optimizer.iterations = 2
    parts = [model.optimizer.inner_optimizer, *model.optimizer.inner_optimizer.optimizers]
    assert [int(to_numpy(part.iterations)) for part in parts] == [2, 2, 2]


SCALED_INSIDE: dict[str, Callable[[], Any]] = {
    "by a factor": lambda: keras.optimizers.SGD(0.25, loss_scale_factor=8.0),
    "ours": lambda: surefoot.RectifiedAdam(0.25, loss_scale_factor=8.0),
    "dynamically": lambda: scaled(keras.optimizers.SGD(0.25)),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("inner", SCALED_INSIDE)
def test_lookahead_around_what_scales_the_loss(inner: str, way: str) -> None:
    """What is divided out of the gradients was multiplied into the loss."""
    plain = surefoot.RectifiedAdam if inner == "ours" else keras.optimizers.SGD
    model = new_model(surefoot.Lookahead(SCALED_INSIDE[inner](), 3), **WAYS[way])
    other = new_model(surefoot.Lookahead(plain(0.25), 3))
    fit(model)
    fit(other)
    close(model, other, 1e-5)
