"""What cannot be converted: every reason at once, the ways out, and what was left out."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import surefoot
from migrate.legacy_files import RECORDED, path_of
from surefoot.cli import main
from surefoot.migrate import (
    LeftOutWarning,
    MigrationError,
    UnsafeFileError,
    check,
    inspect,
    load_model,
    restore,
)

FOREIGN = RECORDED / "foreign"
CASES = {
    "adagrad": "'Adagrad'",
    "adagrad_legacy": "'Adagrad'",
}
FILES = {
    **{f"{case}.h5": word for case, word in CASES.items()},
    "adagrad.keras": "'Adagrad'",
    "adagrad_savedmodel": "'Adagrad'",
}


def recorded_outputs(file: str) -> pathlib.Path:
    case = next(case for case in sorted(CASES, key=len, reverse=True) if file.startswith(case))
    return FOREIGN / f"{case}_recorded.npz"


@pytest.mark.parametrize("file", FILES)
def test_weights_come_without_an_optimizer_that_cannot(file: str) -> None:
    with pytest.raises(MigrationError, match="weights_only=True") as refusal:
        load_model(FOREIGN / file)
    assert FILES[file] in str(refusal.value)
    with pytest.warns(LeftOutWarning, match="optimizer .* loss mse; metrics mae"):
        model, report = load_model(FOREIGN / file, weights_only=True, return_report=True)
    assert not model.compiled
    assert len(report.weights) == len(model.weights)
    assert report.new_optimizer == ""
    assert report.left_out[0] == f"the optimizer {report.optimizer} with its state"
    assert "left out: loss mse" in str(report)
    check(model, recorded_outputs(file))


@pytest.mark.once
@pytest.mark.parametrize("file", FILES)
def test_inspection_says_what_is_in_the_way(file: str) -> None:
    report = inspect(FOREIGN / file)
    assert report.optimizer
    (problem,) = report.problems
    assert FILES[file] in problem
    assert problem in str(report)


def test_a_checkpoint_of_another_optimizer_is_not_taken_for_one_of_ours() -> None:
    path = FOREIGN / "adagrad_checkpoint"
    with pytest.warns(LeftOutWarning):
        model = load_model(FOREIGN / "adagrad.h5", weights_only=True)
    wanted = model.get_weights()
    model.set_weights([np.zeros_like(value) for value in wanted])
    with pytest.raises(MigrationError, match=r"none of the optimizers.*weights_only=True"):
        restore(path, model)
    assert not any(value.any() for value in model.get_weights())
    mine = surefoot.RectifiedAdam()
    model.compile(mine, loss="mse")
    with pytest.warns(LeftOutWarning, match="the model keeps its own"):
        report = restore(path, model, weights_only=True)
    assert model.optimizer is mine
    (left_out,) = report.left_out
    assert left_out.startswith("the optimizer (class not in the file)")
    for value, other in zip(model.get_weights(), wanted, strict=True):
        np.testing.assert_array_equal(value, other)


@pytest.mark.once
def test_weights_alone_of_a_file_without_a_loss_are_no_loss(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(shutil.copy(path_of("radam", "h5"), tmp_path / "model.h5"))
    with h5py.File(path, "r+") as file:
        del file.attrs["training_config"]
        del file["optimizer_weights"]
    load_model(path, weights_only=True)  # warns of nothing


# Several things at once.


def changed(case: str, folder: pathlib.Path, change: Callable[[Any, Any], None]) -> pathlib.Path:
    path = pathlib.Path(shutil.copy(path_of(case, "h5"), folder / "changed.h5"))
    with h5py.File(path, "r+") as file:
        model, training = (
            json.loads(file.attrs[key]) for key in ("model_config", "training_config")
        )
        change(model, training)
        file.attrs["model_config"] = json.dumps(model)
        file.attrs["training_config"] = json.dumps(training)
    return path


def unlike_keras(model: Any, training: Any) -> None:
    """A layer, an activation, a loss, a metric and an optimizer that Keras 3 lacks."""
    layers = {entry["config"]["name"]: entry for entry in model["config"]["layers"]}
    layers["hidden"]["config"]["activation"] = "wavy"
    layers["norm"]["class_name"] = "Custom>Centered"
    training["loss"] = "my_loss"
    training["metrics"] = ["my_metric"]
    training["optimizer_config"]["class_name"] = "Addons>COCOB"


NEEDED = ("wavy", "Centered", "my_loss", "my_metric")


@pytest.fixture
def difficult(tmp_path: pathlib.Path) -> pathlib.Path:
    return changed("radam", tmp_path, unlike_keras)


@pytest.mark.once
def test_everything_in_the_way_is_named_at_once(difficult: pathlib.Path) -> None:
    with pytest.raises(MigrationError, match="for 5 reasons") as refusal:
        load_model(difficult)
    text = str(refusal.value)
    for name in (*NEEDED, "COCOB"):
        assert name in text
    assert "custom_objects={'wavy': ..., 'Centered': ..., 'my_loss': ..., 'my_metric': ...}" in text
    assert "weights_only=True" in text
    assert list(refusal.value.needs) == list(NEEDED)
    with pytest.raises(MigrationError, match="for 2 reasons") as refusal:
        load_model(difficult, weights_only=True)
    assert list(refusal.value.needs) == ["wavy", "Centered"]
    assert "weights_only" not in str(refusal.value)


@pytest.mark.once
def test_an_inspection_prints_the_custom_objects_to_fill_in(difficult: pathlib.Path) -> None:
    code = inspect(difficult).custom_objects()
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["custom_objects"] == dict.fromkeys(NEEDED, ...)
    assert "'Centered': ...,  # the class of your layer" in code
    known = dict.fromkeys(("wavy", "my_loss", "my_metric"), abs)
    report = inspect(difficult, {**known, "Centered": keras.layers.LayerNormalization})
    assert report.custom_objects() == ""
    assert len(report.problems) == 1


@pytest.mark.once
def test_code_in_one_of_several_is_still_unsafe(tmp_path: pathlib.Path) -> None:
    def change(model: Any, training: Any) -> None:
        unlike_keras(model, training)
        model["config"]["layers"][1]["class_name"] = "Lambda"

    path = changed("radam", tmp_path, change)
    with pytest.raises(UnsafeFileError, match=r"'hidden': \.\.\."):
        load_model(path)


# The command line.

MINE = """
import keras


@keras.saving.register_keras_serializable(package="mine")
class Scale(keras.layers.Layer):
    def __init__(self, start=1.0, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.factor = self.add_weight(name="factor", shape=(input_shape[-1],))

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {**super().get_config(), "start": self.start}


replaced = {"Scale": Scale}
nothing = 3
"""


@pytest.mark.once
@pytest.mark.parametrize("reference", ["my_layers.py:Scale", "my_layers:replaced"])
def test_layers_of_the_users_are_imported(
    reference: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere", *__import__("sys").path])
    (tmp_path / "my_layers.py").write_text(MINE)
    old = str(path_of("nadam_scaled", "h5"))
    assert main(["migrate", old, "new.keras", "--custom", reference]) == 0
    assert "Written: new.keras" in capsys.readouterr().out
    assert keras.models.load_model("new.keras").optimizer.iterations == 10


@pytest.mark.once
@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nowhere.py:Scale", "no file 'nowhere.py'"),
        ("no_such_module:Scale", "no module 'no_such_module'"),
        ("my_layers.py:Other", "has no 'Other'"),
        ("my_layers.py:nothing", "Received: 3"),
        ("Scale", "must be module:name or file.py:name"),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    reference: str,
    words: str,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_layers.py").write_text(MINE)
    assert main(["migrate", "old.h5", "new.keras", "--custom", reference]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.once
def test_the_command_line_names_its_own_ways_out(difficult: pathlib.Path, capsys: Any) -> None:
    assert main(["migrate", str(difficult), str(difficult.with_name("new.keras"))]) == 2
    error = capsys.readouterr().err
    assert "custom_objects" not in error
    assert "weights_only" not in error
    assert "--custom file.py:name" in error
    assert "--weights-only" in error
    assert error.count("\n- ") == 5
    assert main(["migrate", str(difficult), "--inspect"]) == 0
    shown = capsys.readouterr().out
    assert "custom_objects = {\n    'wavy': ...,  # your activation function\n" in shown
    assert shown.count("In the way: ") == 5


@pytest.mark.once
def test_the_command_converts_weights_alone_and_says_so(
    tmp_path: pathlib.Path, capsys: Any
) -> None:
    target = tmp_path / "new.keras"
    arguments = ["migrate", str(FOREIGN / "adagrad.h5"), str(target), "--weights-only"]
    assert main([*arguments, "--check", str(FOREIGN / "adagrad_recorded.npz")]) == 0
    shown = capsys.readouterr().out
    assert "Left out: the optimizer Adagrad" in shown
    assert "output_0 agrees" in shown
    assert not keras.models.load_model(target).compiled
