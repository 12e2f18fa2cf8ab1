"""The recorded files, and what the originals computed after they were saved."""

from __future__ import annotations

import json
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

import surefoot.migrate

DATA = pathlib.Path(__file__).parent / "data"
GOLDEN = DATA / "golden"
RECORDED = DATA / "recorded"
GOLDEN_CASES = ("radam", "radam_amsgrad", "nadam", "ranger")
CASES: dict[str, dict[str, Any]] = json.loads((RECORDED / "index.json").read_text())["cases"]
# Each of these is the only one of its kind among models, optimizers and arguments; the others
# differ less and are for the extended run.
DISTINCT = (
    "radam_schedule",
    "radam_conv",
    "radam_two_inputs",
    "ranger_text",
    "lookahead_sgd",
    "swa_adam",
    "moving_average_text",
    "radam_cyclical",
    "nadam_text",
    "sgd_momentum_legacy",
    "sgd_momentum_text_legacy",
    "adam_legacy",
    "adam_decay_legacy",
    "rmsprop_legacy",
    "rmsprop_centered_legacy",
    "adam",
    "adam_amsgrad",
    "adam_ema",
    "adamw",
    "adamw_text",
    "rmsprop_centered",
    "frozen",
    "ranger_nested",
    "nadam_initial_state",
    "radam_normalized",
    "nadam_addons_activations",
    "nadam_composite",
    "radam_addons_layers",
    "radam_loss_scaled",
    "ranger_fixed_scale",
    "adam_loss_scaled",
    "ranger_mixed",
    "addons_adamw",
    "addons_sgdw",
    "adabelief",
    "yogi",
    "novograd",
    "lamb",
)
# Tests of their own have these: models of the user's class, layers that Keras 3 lacks,
# and vocabularies, which are in no `.h5`.
ELSEWHERE = ("subclassed", "containers", "radam_operations", "radam_words", "adam_codes")
WHOLE_MODELS = [case for case in CASES if case not in ELSEWHERE]
BY_WEIGHT = [
    case if case in DISTINCT else pytest.param(case, marks=pytest.mark.extended)
    for case in WHOLE_MODELS
    if case != "nadam_2_11"
]
ENDINGS = {"h5": ".h5", "keras": ".keras", "savedmodel": "_savedmodel"}
SAVED_AFTER, BATCHES = 10, 20

# What float32 leaves after ten further steps: the sums of the two frameworks differ in their
# order, and batch normalization over eight examples magnifies it. A wrong term, such as epsilon
# on the other side of the root, is off by 1e-3 or more.
RELATIVE = 5e-4
ABSOLUTE = 5e-6


@keras.saving.register_keras_serializable(package="tests_migrate")
class Scale(keras.layers.Layer):
    """The user's layer of `make_legacy_models.py`, written for Keras 3."""

    def __init__(self, start: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape: Any) -> None:
        self.factor = self.add_weight(
            name="factor",
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.start),
        )

    def call(self, inputs: Any) -> Any:
        return inputs * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "start": self.start}


@keras.saving.register_keras_serializable(package="tests_migrate")
class Tower(keras.layers.Layer):
    """As in `make_legacy_architectures.py`; a `.h5` has only this order of its layers."""

    def __init__(self, units: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units
        dense = keras.layers.Dense
        self.inner = keras.Sequential(
            [
                dense(units, activation="tanh"),
                keras.layers.Dropout(0.0),
                keras.layers.BatchNormalization(),
                keras.Sequential([dense(units)]),
                dense(units),
            ]
        )
        self._extra = [dense(units), dense(units, activation="tanh")]

    def build(self, input_shape: Any) -> None:
        self.inner.build(input_shape)
        for layer in self._extra:
            layer.build((*input_shape[:-1], self.units))
        self.factor = self.add_weight(name="factor", shape=(self.units,), initializer="ones")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = self.inner(inputs, training=training)
        return self._extra[1](self._extra[0](x)) * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}

    def parts(self) -> dict[str, keras.layers.Layer]:
        first, _, norm, middle, last = self.inner.layers
        parts = {"first": first, "norm": norm, "middle": middle.layers[0], "last": last}
        return parts | {f"extra{i}": layer for i, layer in enumerate(self._extra)}


OWN = {"Scale": Scale, "Tower": Tower}


def path_of(case: str, kind: str) -> pathlib.Path:
    folder = GOLDEN if case in GOLDEN_CASES else RECORDED
    if kind == "checkpoint":
        return folder / f"{case}_checkpoint" / "ckpt"
    return folder / f"{case}{ENDINGS[kind]}"


def load(case: str, kind: str) -> keras.Model:
    """The model; a legacy optimizer's missing state in `.keras` is another test's matter."""
    with warnings.catch_warnings():
        if kind == "keras":
            warnings.simplefilter("ignore", surefoot.migrate.MissingOptimizerStateWarning)
        return surefoot.migrate.load_model(path_of(case, kind), OWN)


def arrays_of(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def expected(case: str) -> dict[str, np.ndarray]:
    return arrays_of((GOLDEN if case in GOLDEN_CASES else RECORDED) / f"{case}_expected.npz")


def train(model: keras.Model, recorded: dict[str, np.ndarray], step: int) -> None:
    def batch(part: str) -> Any:
        arrays = [recorded[k] for k in recorded if k.startswith(f"batch/{step}/{part}/")]
        return arrays if len(arrays) > 1 else arrays[0]

    model.train_on_batch(batch("x"), batch("y"))


def train_golden(model: keras.Model, step: int) -> None:
    batches = arrays_of(GOLDEN / "batches.npz")
    model.train_on_batch(batches["x"][step], batches["y"][step])


def layer_weights(model: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """As `make_legacy_models.weights_by_layer`."""
    parts = model.parts() if hasattr(model, "parts") else {n.name: n for n in model.layers}
    for name, layer in parts.items():
        if isinstance(layer, keras.Model) or hasattr(layer, "parts"):
            yield from layer_weights(layer, f"{prefix}{name}/")
        else:
            for i, value in enumerate(layer.get_weights()):
                yield f"{prefix}{name}/{i}", value


def assert_weights(
    model: keras.Model, recorded: dict[str, np.ndarray], batches: int, exact: bool = False
) -> None:
    assert_arrays(dict(layer_weights(model)), recorded, batches, exact)


def assert_arrays(
    found: dict[str, np.ndarray],
    recorded: dict[str, np.ndarray],
    batches: int,
    exact: bool = False,
) -> None:
    wanted = {k.split("/", 2)[2]: k for k in recorded if k.startswith(f"after/{batches}/")}
    assert found.keys() == wanted.keys()
    for name, key in wanted.items():
        np.testing.assert_allclose(
            found[name],
            recorded[key],
            rtol=0 if exact else RELATIVE,
            atol=0 if exact else ABSOLUTE,
            err_msg=f"{name} after {batches} batches",
        )


def state_of(optimizer: Any) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable.value) for variable in optimizer.variables]


def assert_golden(model: keras.Model, recorded: dict[str, np.ndarray], batches: int) -> None:
    """The weights of the shared regressor, which are recorded by name."""
    for layer in model.layers:
        for variable in layer.weights:
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(variable.value),
                recorded[f"model_after/{batches}/{layer.name}/{variable.name}:0"],
                rtol=RELATIVE,
                atol=ABSOLUTE,
            )
