"""Nothing of a migrated model is lost in the new file."""

from __future__ import annotations

import inspect
import json
import pathlib
import shutil
import zipfile
from typing import Any

import keras
import numpy as np
import pytest

from migrate.legacy_files import DISTINCT, WHOLE_MODELS, load, path_of, state_of
from surefoot.migrate import load_model
from surefoot.migrate.losses import SAVED_WHOLE

TRIPS = [
    case if case in DISTINCT else pytest.param(case, marks=pytest.mark.extended)
    for case in WHOLE_MODELS
]


def plain(config: Any) -> Any:
    """Without the modules of classes: pytest imports that of the tests' layer twice."""
    written = json.dumps(config, default=keras.saving.serialize_keras_object)
    return json.loads(written, object_hook=lambda d: {k: d[k] for k in d if k != "module"})


@pytest.mark.parametrize("case", TRIPS)
def test_a_new_file_holds_all_of_the_model(case: str, tmp_path: pathlib.Path) -> None:
    model = load(case, "h5")
    model.save(tmp_path / "new.keras")
    again = keras.models.load_model(tmp_path / "new.keras")
    assert plain(again.get_config()) == plain(model.get_config())
    assert plain(again.get_compile_config()) == plain(model.get_compile_config())
    for layer, other in zip(model._flatten_layers(), again._flatten_layers(), strict=True):
        assert type(layer).__qualname__ == type(other).__qualname__
        assert layer.trainable == other.trainable
    for weights in ("trainable_variables", "non_trainable_variables"):
        for variable, other in zip(getattr(model, weights), getattr(again, weights), strict=True):
            assert variable.dtype == other.dtype
            if "seed_generator" in variable.path:
                continue  # Keras does not save those of recurrent layers.
            np.testing.assert_array_equal(variable.numpy(), other.numpy())
    for value, other in zip(state_of(model.optimizer), state_of(again.optimizer), strict=True):
        np.testing.assert_array_equal(value, other)


# Arguments that Keras's configurations leave out and that no file of Keras 2 can hold: its losses
# had no dtype and no other axis.
NOT_IN_KERAS_2 = {"dtype", "SparseCategoricalCrossentropy.axis", "from_sorted_ids"}
# An initializer is not used again once there are weights.
HARMLESS = {"Identity.gain"}
REQUIRED: dict[str, Any] = {
    "boundaries": [3, 5],
    "decay_rate": 0.5,
    "decay_steps": 7,
    "first_decay_steps": 5,
    "fn": keras.metrics.mean_squared_error,
    "initial_learning_rate": 0.1,
    "num_classes": 3,
    "precision": 0.5,
    "recall": 0.5,
    "sensitivity": 0.5,
    "specificity": 0.5,
    "target_class_ids": [0],
    "values": [0.1, 0.2, 0.3],
}
ABSTRACT = {"Constraint", "Initializer", "LearningRateSchedule", "Loss", "Metric", "Regularizer"}


def parameters(cls: type) -> dict[str, Any]:
    """The arguments of a class and of those bases to which it hands others on, and defaults."""
    found: dict[str, Any] = {}
    for base in cls.__mro__[:-1]:
        if "__init__" not in vars(base):
            continue
        own = inspect.signature(vars(base)["__init__"]).parameters.values()
        found = {p.name: p.default for p in own if p.kind is not p.VAR_KEYWORD} | found
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            break
    return {name: default for name, default in found.items() if name != "self"}


@pytest.mark.once
@pytest.mark.parametrize(
    "module",
    [
        keras.losses,
        keras.metrics,
        keras.optimizers.schedules,
        keras.regularizers,
        keras.constraints,
        keras.initializers,
    ],
)
def test_no_more_is_forgotten_by_keras_than_is_known(module: Any) -> None:
    tried = 0
    for name, cls in vars(module).items():
        if not isinstance(cls, type) or cls.__name__ != name or name in ABSTRACT:
            continue
        arguments = parameters(cls)
        empty = inspect.Parameter.empty
        required = {n: REQUIRED[n] for n, default in arguments.items() if default is empty}
        config = SAVED_WHOLE.get(cls, cls)(**required).get_config()
        forgotten = arguments.keys() - config.keys() - {"thresholds"}  # of AUC: kept if given
        forgotten -= {n for n in arguments if {n, f"{name}.{n}"} & (NOT_IN_KERAS_2 | HARMLESS)}
        assert not forgotten, f"the configuration of {name} leaves out {forgotten}"
        tried += 1
    assert tried > 3


@pytest.mark.once
def test_arguments_of_compile_that_are_left_out_are_named(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(shutil.copy(path_of("sgd", "keras"), tmp_path / "old.keras"))
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    config = json.loads(parts["config.json"])
    config["compile_config"] |= {"steps_per_execution": 8, "run_eagerly": True}
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in parts.items():
            file.writestr(name, content)
    _, report = load_model(path, return_report=True)
    assert report.left_out == ["compile's run_eagerly=True", "compile's steps_per_execution=8"]
