"""Layers that have learned a vocabulary or bounds; those of text on TensorFlow only."""

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

from migrate.legacy_files import (
    ABSOLUTE,
    BATCHES,
    RELATIVE,
    SAVED_AFTER,
    assert_weights,
    expected,
    load,
    path_of,
)
from migrate.test_attacks import rewrite
from surefoot.migrate import MigrationError, load_model

# What Keras (3.15) says on JAX wherever it makes numbers of 64 bits.
pytestmark = pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64:UserWarning")
KINDS = ["keras", "savedmodel"]
CASES = ["adam_codes", pytest.param("radam_words", marks=pytest.mark.backends("tensorflow"))]


def batch(recorded: dict[str, np.ndarray], step: int) -> list[Any]:
    arrays = [recorded[k] for k in recorded if k.startswith(f"batch/{step}/x/")]
    if arrays[0].dtype.kind != "U":
        return arrays
    import tensorflow as tf

    # Keras 3 takes text only as TensorFlow's tensors.
    return [tf.constant(array) for array in arrays]


def assert_predicts(model: keras.Model, recorded: dict[str, np.ndarray]) -> None:
    predicted = model.predict(batch(recorded, SAVED_AFTER - 1), verbose=0)
    np.testing.assert_allclose(predicted, recorded["predicted"], rtol=RELATIVE, atol=ABSOLUTE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_predictions_are_the_originals_and_training_goes_on(case: str, kind: str) -> None:
    model = load(case, kind)
    recorded = expected(case)
    assert_predicts(model, recorded)
    if (kind == "keras" and case == "radam_words") or keras.config.backend() == "jax":
        return  # without state of the optimizer, or without training in Keras
    for step in range(SAVED_AFTER, BATCHES):
        model.train_on_batch(batch(recorded, step), recorded[f"batch/{step}/y/0"])
    assert int(model.optimizer.iterations) == BATCHES
    own = {k: v for k, v in recorded.items() if not k.startswith("after/") or _trained(k)}
    assert_weights(_Trained(model), own, BATCHES)


def _trained(key: str) -> bool:
    return key.split("/")[2] in ("embedding", "stepwise", "dense", "output")


class _Trained:
    """The layers of a model whose weights are trained, which are those that Keras 3 has, too."""

    def __init__(self, model: keras.Model) -> None:
        self.layers = [layer for layer in model.layers if layer.trainable_weights]


@pytest.mark.parametrize("case", CASES)
def test_a_migrated_model_survives_keras_saving(case: str, tmp_path: pathlib.Path) -> None:
    load(case, "savedmodel").save(tmp_path / "new.keras")
    assert_predicts(keras.models.load_model(tmp_path / "new.keras"), expected(case))


@pytest.mark.backends("jax", "torch")  # TensorFlow has tensors of text
@pytest.mark.parametrize("kind", KINDS)
def test_text_is_refused_at_once_where_no_model_can_have_it(kind: str) -> None:
    with pytest.raises(MigrationError, match=r"Input 'text' is text.*KERAS_BACKEND=tensorflow"):
        load("radam_words", kind)


# Files that lack a vocabulary, or have a wrong one.


@pytest.fixture
def archive(tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copy(path_of("adam_codes", "keras"), tmp_path / "model.keras"))


VOCABULARY = "assets/_layer_checkpoint_dependencies/integer_lookup/vocabulary.txt"


@pytest.mark.once
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"-1\n7\n12", "'learned' has 3 lines for 4 words"),
        (b"-1\n7\n12\n36\n5", "'learned' has 5 lines for 4 words"),
        (b"-1\n7\n12\nx", "invalid literal"),
        (b"-1\n7\n12\n\xff", "codec can't decode"),
    ],
)
def test_another_vocabulary(content: bytes, message: str, archive: pathlib.Path) -> None:
    rewrite(archive, {VOCABULARY: content})
    with pytest.raises(MigrationError, match=message):
        load_model(archive)


def changed(archive: pathlib.Path, vocabulary: Any) -> None:
    """The archive with another vocabulary in the configuration of `counted`."""
    import zipfile

    with zipfile.ZipFile(archive) as file:
        config = json.loads(file.read("config.json"))
    entry = next(e for e in config["config"]["layers"] if e["config"]["name"] == "counted")
    entry["config"]["vocabulary"] = vocabulary
    rewrite(archive, {"config.json": json.dumps(config).encode()})


@pytest.mark.once
@pytest.mark.parametrize("vocabulary", [None, [], {}, "/etc/passwd", ["x"], [[1]], [None], 5])
def test_a_vocabulary_is_a_list_in_the_file(vocabulary: Any, archive: pathlib.Path) -> None:
    changed(archive, vocabulary)
    with pytest.raises(MigrationError, match=r"'counted'.*vocabulary"):
        load_model(archive)
    layer = keras.layers.IntegerLookup(vocabulary=[12, 7], output_mode="count", name="counted")
    assert_predicts(load_model(archive, {"counted": layer}), expected("adam_codes"))


def cut(saved: Any) -> None:
    saved.meta_graphs[0].graph_def.ClearField("node")


def huge(saved: Any) -> None:
    for node in saved.meta_graphs[0].graph_def.node:
        node.attr["value"].tensor.tensor_shape.dim.add(size=2**40)


def other_type(saved: Any) -> None:
    for node in saved.meta_graphs[0].graph_def.node:
        node.attr["value"].tensor.dtype = 1


def nowhere(saved: Any) -> None:
    for function in saved.meta_graphs[0].object_graph_def.concrete_functions.values():
        function.bound_inputs[:] = [10**6] * len(function.bound_inputs)


def gaps(saved: Any) -> None:
    for node in saved.meta_graphs[0].graph_def.node:
        tensor = node.attr["value"].tensor
        if tensor.dtype == 9 and tensor.tensor_content:
            tensor.tensor_content = tensor.tensor_content[:-8] + (99).to_bytes(8, "little")


def no_functions(saved: Any) -> None:
    saved.meta_graphs[0].object_graph_def.ClearField("concrete_functions")


def no_objects(saved: Any) -> None:
    del saved.meta_graphs[0].object_graph_def.nodes[:]


def no_graph(saved: Any) -> None:
    del saved.meta_graphs[:]


@pytest.mark.once
@pytest.mark.parametrize(
    "change", [cut, huge, other_type, nowhere, gaps, no_functions, no_objects, no_graph]
)
def test_a_savedmodel_whose_tables_are_damaged(
    change: Callable[[Any], None], tmp_path: pathlib.Path
) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    folder = tmp_path / "saved"
    shutil.copytree(path_of("adam_codes", "savedmodel"), folder)
    file = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(saved)
    file.write_bytes(saved.SerializeToString())
    with pytest.raises(MigrationError):
        load_model(folder)
    file.write_bytes(file.read_bytes()[:-7] or b"x")
    with pytest.raises(MigrationError):
        load_model(folder)


@pytest.mark.once
def test_a_h5_whose_saving_failed_is_named(tmp_path: pathlib.Path) -> None:
    path = pathlib.Path(shutil.copy(path_of("radam", "h5"), tmp_path / "model.h5"))
    with h5py.File(path, "r+") as file:
        del file["model_weights/hidden"].attrs["weight_names"]
    with pytest.raises(MigrationError, match="could not write vocabularies"):
        load_model(path)
