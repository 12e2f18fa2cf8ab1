"""Files made to do harm, and damaged ones: refused, with nothing run and nothing changed."""

from __future__ import annotations

import base64
import json
import marshal
import pathlib
import shutil
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from migrate.legacy_files import path_of
from surefoot.migrate import MigrationError, UnsafeFileError, load_model

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


@pytest.mark.parametrize(
    ("class_name", "way_out"),
    [
        ("RandomCrop", "crop_to_aspect_ratio=True"),
        ("AddLoss", "uses `self.add_loss`"),
        ("AddMetric", r"keras\.layers\.Identity"),
        ("Addons>WeightNormalization", "no layer 'Addons>WeightNormalization'"),
        ("Addons>SpectralNormalization", "no layer 'Addons>SpectralNormalization'"),
    ],
)
def test_layers_that_keras_3_lacks_or_changed_are_named(
    class_name: str, way_out: str, h5: pathlib.Path
) -> None:
    change_config(h5, lambda config: config["config"]["layers"][1].update(class_name=class_name))
    with pytest.raises(MigrationError, match=way_out):
        load_model(h5)
