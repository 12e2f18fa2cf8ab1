"""Damaged files and wrong ones: one clear error, whatever is broken."""

from __future__ import annotations

import io
import json
import pathlib
import random
import shutil
import subprocess
import sys
import zipfile
from typing import Any

import h5py
import numpy as np
import pytest

from migrate.legacy_files import load, path_of
from surefoot.migrate import MigrationError, inspect, load_model

pytestmark = pytest.mark.once


@pytest.fixture
def h5(tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copy(path_of("radam", "h5"), tmp_path / "model.h5"))


@pytest.mark.parametrize("kind", ["h5", "keras"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.9999])
def test_truncated_files(kind: str, share: float, tmp_path) -> None:
    content = path_of("nadam", kind).read_bytes()
    path = tmp_path / f"model.{kind}"
    path.write_bytes(content[: int(len(content) * share)])
    for reader in (inspect, load_model):
        with pytest.raises(MigrationError):
            reader(path)


@pytest.mark.parametrize("part", ["index", "data"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.95])
def test_truncated_savedmodel_and_checkpoint(part: str, share: float, tmp_path) -> None:
    for kind, prefix in (("savedmodel", "variables/variables"), ("checkpoint", "ckpt")):
        source = path_of("radam", kind)
        source = source if kind == "savedmodel" else source.parent
        folder = tmp_path / kind
        shutil.copytree(source, folder)
        file = next(folder.glob(f"{prefix}.{part}*"))
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
        with pytest.raises(MigrationError):
            inspect(folder)


def test_savedmodel_whose_metadata_are_damaged(tmp_path) -> None:
    folder = tmp_path / "saved"
    shutil.copytree(path_of("radam", "savedmodel"), folder)
    metadata = folder / "keras_metadata.pb"
    metadata.write_bytes(metadata.read_bytes()[:500])
    with pytest.raises(MigrationError):
        load_model(folder)
    metadata.unlink()
    with pytest.raises(MigrationError, match="keras_metadata"):
        load_model(folder)


def mutated(value: Any, rng: random.Random) -> Any:
    """The configuration with one part of it replaced by something else."""
    strange = [None, -1, 10**9, "x", [], {}, [["hidden", 5, 0, {}]], {"class_name": "Dense"}, 0.5]
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return rng.choice(strange)
    if isinstance(value, list):
        at = rng.randrange(len(value))
        return [*value[:at], mutated(value[at], rng), *value[at + 1 :]]
    key = rng.choice(sorted(value))
    if rng.random() < 0.2:
        return {k: v for k, v in value.items() if k != key}
    return {**value, key: mutated(value[key], rng)}


@pytest.mark.parametrize("case", ["radam_two_inputs", "frozen"])
@pytest.mark.parametrize("attribute", ["model_config", "training_config"])
def test_malformed_configurations_are_clear_errors_or_load(
    case: str, attribute: str, tmp_path
) -> None:
    path = pathlib.Path(shutil.copy(path_of(case, "h5"), tmp_path / "model.h5"))
    with h5py.File(path) as file:
        original = json.loads(file.attrs[attribute])
    rng = random.Random(7)
    outcomes = {"loaded": 0, "refused": 0}
    for _ in range(40):
        changed = json.dumps(mutated(original, rng))
        with h5py.File(path, "r+") as file:
            file.attrs[attribute] = changed
        try:
            load_model(path)
            outcomes["loaded"] += 1
        except MigrationError:
            outcomes["refused"] += 1
    assert outcomes["refused"] >= 10


def test_configuration_nested_beyond_all_measure(h5: pathlib.Path) -> None:
    with h5py.File(h5, "r+") as file:
        file.attrs["model_config"] = "[" * 20_000
    with pytest.raises(MigrationError, match="model_config"):
        load_model(h5)


def test_shapes_that_do_not_fit_the_configuration(h5: pathlib.Path) -> None:
    with h5py.File(h5, "r+") as file:
        del file["model_weights/hidden/hidden/bias:0"]
        file["model_weights/hidden/hidden/bias:0"] = np.zeros(7, "float32")
        del file["optimizer_weights"]
    with pytest.raises(MigrationError, match=r"hidden/bias:0 \(7,\)"):
        load_model(h5)


@pytest.mark.parametrize("name", ["nowhere.h5", "nowhere/ckpt"])
def test_nothing_there(name: str, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_model(tmp_path / name)


def test_not_a_model_at_all(tmp_path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(MigrationError, match="neither"):
        load_model(tmp_path / "text.h5")
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["x"] = 1.0
    with pytest.raises(MigrationError, match="no `model_config`"):
        load_model(tmp_path / "weights.h5")
    with pytest.raises(MigrationError, match="restore"):
        load_model(path_of("radam", "checkpoint"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a", "b")
    (tmp_path / "a.keras").write_bytes(buffer.getvalue())
    with pytest.raises(MigrationError, match="lacks"):
        load_model(tmp_path / "a.keras")


def test_a_layer_of_the_users_must_be_passed() -> None:
    with pytest.raises(MigrationError, match="not a keras layer"):
        load_model(path_of("nadam_scaled", "h5"), {"Scale": "no class"})
    assert load("nadam_scaled", "h5").get_layer("scale").start == 0.5


# TensorFlow only where it is needed.

WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None  # as if it were not installed
from surefoot.migrate import MissingTensorFlowError, load_model
print(load_model(sys.argv[1]).optimizer.name)
for path in sys.argv[2:]:
    try:
        load_model(path)
    except MissingTensorFlowError as error:
        print(error)
"""


def test_tensorflow_is_asked_for_only_where_it_is_needed() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_TENSORFLOW,
            *(str(path_of("radam", kind)) for kind in ("h5", "savedmodel", "checkpoint")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name, *messages = done.stdout.splitlines()
    assert name == "RectifiedAdam"
    assert len(messages) == 2
    assert all("install `tensorflow-cpu`" in message for message in messages)
