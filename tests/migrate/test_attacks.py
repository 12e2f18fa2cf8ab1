"""Files made to do harm, and damaged ones: refused, with nothing run and nothing changed."""

from __future__ import annotations

import base64
import io
import json
import marshal
import pathlib
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from migrate.legacy_files import load, path_of
from surefoot.migrate import MigrationError, UnsafeFileError, inspect, load_model

pytestmark = pytest.mark.once


@pytest.fixture
def h5(tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copy(path_of("radam", "h5"), tmp_path / "model.h5"))


@pytest.fixture
def archive(tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copy(path_of("radam", "keras"), tmp_path / "model.keras"))


def change_config(path: pathlib.Path, change: Callable[[Any], None]) -> None:
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)


def rewrite(path: pathlib.Path, members: dict[str, bytes], compression: int = 0) -> None:
    with zipfile.ZipFile(path) as old:
        kept = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in {**kept, **members}.items():
            new.writestr(name, content)


def code_that_would(touch: pathlib.Path) -> str:
    code = compile(f"lambda x: open({str(touch)!r}, 'w').close() or x", "file", "eval")
    return base64.b64encode(marshal.dumps(code.co_consts[0])).decode()


# Links and sizes inside HDF5.


def external_link(file: h5py.File) -> None:
    del file["model_weights/hidden"]
    file["model_weights/hidden"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(file: h5py.File) -> None:
    del file["model_weights/hidden/hidden/bias:0"]
    file["model_weights/hidden/hidden/bias:0"] = h5py.SoftLink("/model_weights/norm/norm/beta:0")


def virtual_dataset(file: h5py.File) -> None:
    del file["model_weights/hidden/hidden/bias:0"]
    layout = h5py.VirtualLayout(shape=(8,), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "secret", shape=(8,))
    file.create_virtual_dataset("model_weights/hidden/hidden/bias:0", layout)


def external_storage(file: h5py.File) -> None:
    del file["model_weights/hidden/hidden/bias:0"]
    file.create_dataset(
        "model_weights/hidden/hidden/bias:0", (8,), "f4", external=[("/etc/passwd", 0, 32)]
    )


def unwritten_terabyte(file: h5py.File) -> None:
    del file["model_weights/hidden/hidden/bias:0"]
    file.create_dataset("model_weights/hidden/hidden/bias:0", (2**38,), "f4", chunks=(2**20,))


def strings_for_numbers(file: h5py.File) -> None:
    del file["model_weights/hidden/hidden/bias:0"]
    file.create_dataset("model_weights/hidden/hidden/bias:0", data=[b"x"] * 8)


def very_deep(file: h5py.File) -> None:
    file.create_group("/".join(["deep"] * 200))


def endless(file: h5py.File) -> None:
    file["model_weights/loop"] = file["model_weights"]


@pytest.mark.parametrize(
    "attack",
    [
        external_link,
        soft_link,
        virtual_dataset,
        external_storage,
        unwritten_terabyte,
        strings_for_numbers,
        very_deep,
        endless,
    ],
)
@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_hdf5_that_reaches_out_or_blows_up(
    attack: Callable[[h5py.File], None],
    kind: str,
    h5: pathlib.Path,
    archive: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    with h5py.File(h5, "r+") as file:
        attack(file)
    if kind == "keras":
        rewrite(archive, {"model.weights.h5": h5.read_bytes()})
    with pytest.raises(UnsafeFileError):
        load_model(h5 if kind == "h5" else archive)


# Code in configurations.


def test_a_lambda_is_never_run_and_can_be_replaced(h5: pathlib.Path, tmp_path) -> None:
    marker = tmp_path / "ran"

    def insert(config: Any) -> None:
        layers = config["config"]["layers"]
        layers[2] = {
            "class_name": "Lambda",
            "name": "norm",
            "config": {
                "name": "norm",
                "function": [code_that_would(marker), None, None],
                "function_type": "lambda",
                "module": "os",
                "arguments": {},
            },
            "inbound_nodes": layers[2]["inbound_nodes"],
        }

    change_config(h5, insert)
    with pytest.raises(UnsafeFileError, match=r"custom_objects=.*'norm'"):
        load_model(h5)
    replacement = keras.layers.LayerNormalization(name="norm")
    model = load_model(h5, {"norm": replacement})
    assert model.get_layer("norm") is replacement
    np.testing.assert_array_equal(model.predict(np.ones((2, 9)), verbose=0).shape, (2, 1))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("activation", {"class_name": "__lambda__", "config": {"value": "CODE"}}),
        ("activation", {"class_name": "function", "config": "system", "module": "os"}),
        ("activation", "get"),
        ("activation", "builtins>eval"),
        ("kernel_initializer", {"class_name": "Popen", "config": {}, "module": "subprocess"}),
        ("kernel_initializer", {"class_name": "deserialize", "config": {}}),
        ("kernel_regularizer", {"class_name": "__lambda__", "config": {"value": "CODE"}}),
        ("units", {"class_name": "__numpy__", "config": {"value": [1], "dtype": "O"}}),
        ("dtype", {"class_name": "Popen", "config": {"args": "true"}, "module": "subprocess"}),
    ],
)
def test_configurations_name_only_keras_and_the_users_own(
    place: str, value: Any, h5: pathlib.Path, tmp_path
) -> None:
    marker = tmp_path / "ran"
    text = json.dumps(value).replace("CODE", code_that_would(marker))
    change_config(
        h5, lambda config: config["config"]["layers"][1]["config"].update({place: json.loads(text)})
    )
    with pytest.raises(MigrationError):
        load_model(h5)
    assert not marker.exists()


@pytest.mark.parametrize(
    "class_name", ["Popen", "os>system", "TFSMLayer", "Lambda", "JaxLayer", "get", "TFOpLambda"]
)
def test_layers_of_other_kinds_are_refused(class_name: str, h5: pathlib.Path) -> None:
    change_config(h5, lambda config: config["config"]["layers"][1].update(class_name=class_name))
    with pytest.raises(MigrationError):
        load_model(h5)


@pytest.mark.parametrize("place", ["loss", "metrics"])
def test_losses_and_metrics_are_looked_up_only(place: str, h5: pathlib.Path) -> None:
    with h5py.File(h5, "r+") as file:
        training = json.loads(file.attrs["training_config"])
        training[place] = [{"class_name": "Popen", "config": {"args": "true"}}]
        file.attrs["training_config"] = json.dumps(training)
    with pytest.raises(MigrationError, match="Popen"):
        load_model(h5)


# Archives.


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "c:\\evil", "..\\evil"])
def test_archive_members_stay_inside(name: str, archive: pathlib.Path) -> None:
    rewrite(archive, {name: b"x"})
    with pytest.raises(UnsafeFileError, match="outside"):
        load_model(archive)


def test_archive_bomb(archive: pathlib.Path) -> None:
    rewrite(archive, {"assets/zeros": bytes(200 * 2**20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UnsafeFileError, match="unpacks to"):
        load_model(archive)


def test_archive_with_two_configurations(archive: pathlib.Path) -> None:
    with zipfile.ZipFile(archive, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("config.json", "{}")
    with pytest.raises(UnsafeFileError, match="twice"):
        load_model(archive)


def test_archive_with_a_link(archive: pathlib.Path) -> None:
    entry = zipfile.ZipInfo("assets/link")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(entry, "/etc/passwd")
    with pytest.raises(UnsafeFileError, match="link"):
        load_model(archive)


def test_archive_whose_entry_lies_about_its_size(archive: pathlib.Path) -> None:
    content = bytearray(archive.read_bytes())
    start = content.rfind(b"PK\x01\x02", 0, content.rfind(b"model.weights.h5"))
    content[start + 24 : start + 28] = (100).to_bytes(4, "little")
    archive.write_bytes(bytes(content))
    with pytest.raises(MigrationError):
        load_model(archive)


def test_archive_of_keras_3_is_left_to_keras(tmp_path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.save(tmp_path / "new.keras")
    with pytest.raises(MigrationError, match=r"not written by Keras 2.*keras\.models\.load_model"):
        load_model(tmp_path / "new.keras")


# Damage.


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
