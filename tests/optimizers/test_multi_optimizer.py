"""MultiOptimizer: each optimizer moves the variables of its layers, and no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import to_numpy
from regression import assert_same
from softmax import WAYS


def layers() -> list[keras.layers.Layer]:
    keras.utils.set_random_seed(3)
    return [
        keras.layers.Dense(4, activation="tanh", name="body"),
        keras.layers.Dense(4, name="neck"),
        keras.layers.Dense(1, name="head"),
    ]


def compiled(
    optimizer: Callable[[list[Any]], Any], **how: Any
) -> tuple[keras.Model, list[np.ndarray]]:
    """A model and its weights at the start."""
    parts = layers()
    model = keras.Sequential([keras.Input((3,)), *parts])
    model.compile(optimizer(parts), "mse", **how)
    return model, model.get_weights()


def train(model: keras.Model) -> None:
    inputs = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    targets = np.sin(inputs.sum(1, keepdims=True))
    model.fit(inputs, targets, batch_size=4, shuffle=False, verbose=0)


def two(parts: list[Any]) -> surefoot.MultiOptimizer:
    return surefoot.MultiOptimizer(
        [
            (surefoot.Lookahead(keras.optimizers.SGD(0.5), 2), parts[0]),
            (surefoot.RectifiedAdam(0.1), parts[1:]),
        ]
    )


@pytest.mark.parametrize("way", WAYS)
def test_each_layer_moves_as_with_its_optimizer(way: str, tmp_path: Path) -> None:
    """In the first step, where the gradients are those of each optimizer alone."""
    once = (np.ones((4, 3), "float32"), np.ones((4, 1), "float32"))
    model, start = compiled(two, **WAYS[way])
    alone = []
    for make in (lambda: keras.optimizers.SGD(0.5), lambda: surefoot.RectifiedAdam(0.1)):
        other, _ = compiled(lambda _, make=make: make())
        other.train_on_batch(*once)
        alone.append(other.get_weights())
    model.train_on_batch(*once)
    expected = [*alone[0][:2], *alone[1][2:]]
    for now, right, before in zip(model.get_weights(), expected, start, strict=True):
        np.testing.assert_allclose(now, right, rtol=1e-6, atol=1e-7)
        assert np.any(now != before)


@pytest.mark.parametrize("wrap", [lambda o: o, keras.optimizers.LossScaleOptimizer])
def test_saved_and_loaded_it_goes_on(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    model, _ = compiled(lambda parts: wrap(two(parts)))
    train(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded, model)
    train(model)
    train(loaded)
    assert_same(loaded, model)
    if wrap is keras.optimizers.LossScaleOptimizer:
        return
    model.save_weights(tmp_path / "model.weights.h5")
    other, _ = compiled(two)
    other.load_weights(tmp_path / "model.weights.h5")
    train(model)
    train(other)
    assert_same(other, model)
    twin, _ = compiled(two)
    twin.set_weights(model.get_weights())
    twin.optimizer.build(twin.trainable_variables)
    twin.optimizer.set_weights(model.optimizer.get_weights())
    assert_same(twin, model)
    assert [int(to_numpy(o.iterations)) for o in twin.optimizer.optimizers] == [15, 15]


def test_inside_of_a_wrapper() -> None:
    """After two steps, Lookahead puts every weight half of the way back."""
    once = (np.ones((4, 3), "float32"), np.ones((4, 1), "float32"))
    plain, start = compiled(lambda p: surefoot.MultiOptimizer([(surefoot.Nadam(0.1), p)]))
    outer, _ = compiled(
        lambda p: surefoot.Lookahead(surefoot.MultiOptimizer([(surefoot.Nadam(0.1), p)]), 2)
    )
    for _ in range(2):
        plain.train_on_batch(*once)
        outer.train_on_batch(*once)
    for half, whole, before in zip(outer.get_weights(), plain.get_weights(), start, strict=True):
        np.testing.assert_allclose(half - before, (whole - before) / 2, atol=1e-6)


def test_variables_of_no_pair_stay_and_are_named() -> None:
    model, start = compiled(lambda p: surefoot.MultiOptimizer([(surefoot.Nadam(0.1), p[1:])]))
    with pytest.warns(UserWarning, match=r"No optimizer .* trains .*body/kernel.*body/bias"):
        train(model)
    moved = [bool(np.any(a != b)) for a, b in zip(model.get_weights(), start, strict=True)]
    assert moved == [False, False, True, True, True, True]


def test_variables_of_two_pairs_are_moved_by_both() -> None:
    layer = keras.layers.Dense(1, use_bias=False)
    layer.build((None, 1))
    rates = (1.0, 0.25)
    pairs = [(keras.optimizers.SGD(rate), layer) for rate in rates]
    optimizer = surefoot.MultiOptimizer(pairs)
    before = to_numpy(layer.kernel)
    optimizer.apply([keras.ops.ones((1, 1))], [layer.kernel])
    np.testing.assert_allclose(to_numpy(layer.kernel), before - 1.25, rtol=1e-6)
    assert [spec["weights"] for spec in optimizer.optimizer_specs] == [[layer.kernel.path]] * 2


@pytest.mark.once
def test_rates_are_those_of_the_parts() -> None:
    model, _ = compiled(two)
    for optimizer in (model.optimizer, surefoot.Lookahead(model.optimizer)):
        with pytest.raises(AttributeError, match=r"optimizers\[0\]\.learning_rate"):
            optimizer.learning_rate  # noqa: B018
    with pytest.raises(AttributeError, match=r"Received: 0\.5"):
        model.optimizer.lr = 0.5
    model.optimizer.optimizers[1].learning_rate = 0.5
    model.optimizer.iterations = 4
    assert [int(to_numpy(o.iterations)) for o in model.optimizer.optimizers] == [4, 4]


SGD = keras.optimizers.SGD


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: surefoot.MultiOptimizer(), RuntimeError, "Must specify one of"),
        (lambda p: surefoot.MultiOptimizer([], []), RuntimeError, "Must specify one of"),
        (lambda p: surefoot.MultiOptimizer("adam"), TypeError, "Received: .*'adam'"),
        (lambda p: surefoot.MultiOptimizer([SGD()]), TypeError, "must hold pairs"),
        (lambda p: surefoot.MultiOptimizer([(SGD(), "body")]), TypeError, "Received: 'body'"),
        (lambda p: surefoot.MultiOptimizer([(3, p[0])]), TypeError, "Received: optimizer=3"),
        (lambda p: surefoot.MultiOptimizer(None, [{"weights": []}]), TypeError, "'optimizer'"),
        (
            lambda p: surefoot.MultiOptimizer([(o := SGD(), p[0]), (o, p[1])]),
            ValueError,
            "one pair only",
        ),
        (
            lambda p: surefoot.MultiOptimizer([(SGD(loss_scale_factor=2.0), p)]),
            ValueError,
            "cannot scale the loss",
        ),
    ],
)
def test_a_wrong_argument_is_named(
    make: Callable[[list[Any]], Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make(layers())
