"""Activations of TensorFlow Addons by the names that files have for them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import surefoot.migrate
from migrate.legacy_files import RELATIVE, path_of

X = np.linspace(-3.0, 3.0, 13).astype("float32")
TANH = np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3))
EXACT = 0.5 * X * (1 + np.array([math.erf(x / math.sqrt(2)) for x in X]))
FORMULAS = {
    "Addons>gelu": 0.5 * X * (1 + TANH),
    "gelu": EXACT,
    "Addons>hardshrink": np.where(np.abs(X) > 0.5, X, 0),
    "Addons>lisht": X * np.tanh(X),
    "Addons>mish": X * np.tanh(np.log1p(np.exp(X))),
    "Addons>snake": X + (1 - np.cos(2 * X)) / 2,
    "Addons>softshrink": np.sign(X) * np.maximum(np.abs(X) - 0.5, 0),
    "Addons>sparsemax": np.eye(13)[12] * 0.75 + np.eye(13)[11] * 0.25,
    "Addons>tanhshrink": X - np.tanh(X),
}


def as_name(name: str) -> Any:
    """As older versions of tf.keras wrote it."""
    return name


def as_function(name: str) -> Any:
    return {
        "module": "builtins",
        "class_name": "function",
        "config": name,
        "registered_name": "function",
    }


@pytest.fixture
def file_with(tmp_path: Any) -> Callable[[Any], Any]:
    """A recorded file whose hidden layer is given another activation."""

    def written(activation: Any) -> Any:
        path = tmp_path / "model.h5"
        path.write_bytes(path_of("radam_decay_clip", "h5").read_bytes())
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            config["config"]["layers"][1]["config"]["activation"] = activation
            file.attrs["model_config"] = json.dumps(config)
        return path

    return written


@pytest.mark.parametrize("written", [as_name, as_function])
@pytest.mark.parametrize("name", FORMULAS)
def test_every_name_is_its_formula(name: str, written: Any, file_with: Any, tmp_path: Any) -> None:
    model, report = surefoot.migrate.load_model(file_with(written(name)), return_report=True)
    assert any("tanh_gelu" in note for note in report.notes) == (name == "gelu")
    model.save(tmp_path / "new.keras")
    for each in (model, keras.models.load_model(tmp_path / "new.keras")):
        found = keras.ops.convert_to_numpy(each.get_layer("hidden").activation(keras.ops.array(X)))
        np.testing.assert_allclose(found, FORMULAS[name], rtol=RELATIVE, atol=1e-6)


@pytest.mark.parametrize("written", [as_name, as_function])
def test_what_is_not_converted_is_named(written: Any, file_with: Any) -> None:
    path = file_with(written("Addons>rrelu"))
    with pytest.raises(surefoot.migrate.MigrationError, match="Addons>rrelu"):
        surefoot.migrate.load_model(path)
    own = {"Addons>rrelu": keras.activations.leaky_relu}
    assert surefoot.migrate.load_model(path, own).get_layer("hidden")
