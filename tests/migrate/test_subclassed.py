"""Models of the user's own classes, which only checkpoints can hold."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from migrate.legacy_files import (
    ABSOLUTE,
    BATCHES,
    RECORDED,
    RELATIVE,
    SAVED_AFTER,
    assert_arrays,
    expected,
    path_of,
    train,
)
from surefoot.migrate import MigrationError, restore


class Subclassed(keras.Model):
    """`Subclassed` of `make_legacy_own.py`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = keras.layers.Dense(4, activation="relu")
        self.second = keras.layers.Dense(2)

    def call(self, inputs):
        return self.second(self.first(inputs))


class Block(keras.layers.Layer):
    """The recorded block; its attributes are made in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = [keras.layers.LayerNormalization(epsilon=0.1)]
        self.first = keras.layers.Dense(4, activation="tanh")
        self.second = keras.layers.Dense(4)

    def build(self, input_shape: Any) -> None:
        self.first.build(input_shape)
        self.second.build(input_shape)
        self.norms[0].build(input_shape)
        self.gain = self.add_weight(name="factor", shape=(4,), initializer="ones")

    def call(self, inputs: Any) -> Any:
        return self.norms[0](self.second(self.first(inputs))) * self.gain


class Containers(keras.Model):
    """`Containers` of `make_legacy_own.py`, made in another order."""

    def __init__(self, named: dict[str, str] | None = None) -> None:
        super().__init__()
        self.heads = {"left": [keras.layers.Dense(2)], "right": keras.layers.Dense(2)}
        if named:
            self.heads = {named.get(name, name): head for name, head in self.heads.items()}
        self.recurrent = keras.layers.Bidirectional(keras.layers.LSTM(2))
        self.body = keras.Sequential([keras.layers.Dense(4), Block()])
        # Of two variables with one path, Keras (3.15) on PyTorch adds up the gradients of one.
        self.stem = (keras.layers.Dense(4, name="linear"), keras.layers.Dense(4, name="other"))
        self.blocks = [Block(), Block()]
        self.seen = keras.metrics.Mean()

    def build(self, input_shape: Any) -> None:
        self.shift = self.add_weight(name="shift", shape=(2,))

    def call(self, inputs: Any) -> Any:
        x = self.stem[1](self.stem[0](inputs))
        for block in self.blocks:
            x = block(x)
        x = self.body(x)
        x = x + self.recurrent(keras.ops.expand_dims(x, 1))
        left, right = self.heads.values()
        return left[0](x) + right(x) + self.shift

    def parts(self) -> dict[str, keras.layers.Layer]:
        parts = {f"stem{i}": layer for i, layer in enumerate(self.stem)}
        for name, block in (
            ("block0", self.blocks[0]),
            ("block1", self.blocks[1]),
            ("inner", self.body.layers[-1]),
        ):
            parts |= {f"{name}_first": block.first, f"{name}_second": block.second}
            parts[f"{name}_norm"] = block.norms[0]
        left, right = self.heads.values()
        parts |= {"left": left[0], "right": right}
        return parts | {"body": self.body.layers[-2], "recurrent": self.recurrent}


def built(model: keras.Model, learning_rate: float = 1e-3) -> keras.Model:
    model(np.zeros((1, 5), "float32"))
    model.compile(optimizer=surefoot.RectifiedAdam(learning_rate), loss="mse")
    return model


def assert_parts(
    parts: dict[str, keras.layers.Layer],
    recorded: dict[str, np.ndarray],
    batches: int,
    exact: bool = False,
) -> None:
    found = {
        f"{name}/{i}": value
        for name, layer in parts.items()
        for i, value in enumerate(layer.get_weights())
    }
    assert_arrays(found, recorded, batches, exact)


def test_a_checkpoint_goes_by_attributes() -> None:
    model = built(Subclassed())
    restore(path_of("subclassed", "checkpoint"), model)
    recorded = expected("subclassed")
    for step in range(SAVED_AFTER, BATCHES):
        train(model, recorded, step)
    assert_parts({"dense": model.first, "dense_1": model.second}, recorded, BATCHES)


def weights_file(kind: str) -> pathlib.Path:
    return RECORDED / f"containers_{kind}" / "ckpt"


@pytest.mark.parametrize("kind", ["checkpoint", "weights"])
def test_lists_dictionaries_and_inner_objects_go_by_their_places(kind: str) -> None:
    model = built(Containers())
    report = restore(weights_file(kind), model)
    assert not report.left_out
    assert ("blocks/0/second/kernel", model.blocks[0].second.kernel.path, (4, 4)) in report.weights
    recorded = expected("containers")
    predicted = model.predict(recorded[f"batch/{SAVED_AFTER - 1}/x/0"], verbose=0)
    np.testing.assert_allclose(predicted, recorded["predicted"], rtol=RELATIVE, atol=ABSOLUTE)
    assert report.step == SAVED_AFTER
    assert_parts(model.parts(), recorded, SAVED_AFTER, exact=True)
    for step in range(SAVED_AFTER, BATCHES):
        train(model, recorded, step)
        assert_parts(model.parts(), recorded, step + 1)


@pytest.mark.parametrize("kind", ["checkpoint", "weights"])
def test_another_key_is_an_error_that_changes_nothing(kind: str) -> None:
    model = built(Containers(named={"left": "middle"}))
    before = model.get_weights()
    with pytest.raises(MigrationError) as caught:
        restore(weights_file(kind), model)
    assert "heads/left/0/kernel (4, 2)" in str(caught.value)
    hint = "has no object 'model', so it was read as one that `model.save_weights` wrote"
    assert (hint in str(caught.value)) == (kind == "weights")
    for ours, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, old)


def test_a_list_that_is_too_short_is_an_error() -> None:
    model = Containers()
    model.blocks = [Block()]
    with pytest.raises(MigrationError, match=r"In the file only: .*blocks/1/first/kernel"):
        restore(weights_file("checkpoint"), built(model))
    model = Containers()
    model.blocks = [Block(), Block(), Block()]
    with pytest.raises(MigrationError, match=r"In the model only: .*norm.*gamma \(4,\)"):
        restore(weights_file("checkpoint"), built(model))


def test_the_root_of_a_file_can_be_told() -> None:
    model = built(Containers())
    restore(weights_file("weights"), model, model_name="")
    assert_parts(model.parts(), expected("containers"), SAVED_AFTER)
    with pytest.raises(MigrationError, match=r"no object 'net'"):
        restore(weights_file("weights"), model, model_name="net")
