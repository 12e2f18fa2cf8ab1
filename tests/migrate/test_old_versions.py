"""SavedModels of TensorFlow 2.0 to 2.4, which describe the model inside `saved_model.pb`."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import keras
import numpy as np
import pytest

from migrate.legacy_files import (
    ABSOLUTE,
    BATCHES,
    DATA,
    RELATIVE,
    SAVED_AFTER,
    arrays_of,
    train,
)
from surefoot.migrate import MigrationError, load_model, restore

OLD = DATA / "old_versions"
VERSIONS = json.loads((OLD / "versions.json").read_text())


class Own(keras.Model):
    """As in `make_old_savedmodels.py`."""

    def __init__(self) -> None:
        super().__init__()
        self.head = keras.layers.Dense(2)
        self.blocks = [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(4)]

    def call(self, inputs: Any) -> Any:
        for block in self.blocks:
            inputs = block(inputs)
        return self.head(inputs)

    def parts(self) -> dict[str, keras.layers.Layer]:
        return {"block0": self.blocks[0], "block1": self.blocks[1], "head": self.head}


def assert_goes_on(model: keras.Model, recorded: dict[str, np.ndarray]) -> None:
    """It predicts what the original did when it was saved, and ends where that ended."""
    last = SAVED_AFTER - 1
    inputs = [recorded[k] for k in recorded if k.startswith(f"batch/{last}/x/")]
    predicted = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
    np.testing.assert_allclose(predicted, recorded["predicted"], rtol=RELATIVE, atol=ABSOLUTE)
    assert int(model.optimizer.iterations) == SAVED_AFTER
    for step in range(SAVED_AFTER, BATCHES):
        train(model, recorded, step)
    parts = model.parts() if isinstance(model, Own) else {n.name: n for n in model.layers}
    compared = 0
    for name, layer in parts.items():
        inner = {f"{i}/": n for i, n in enumerate(getattr(layer, "layers", []))}
        for number, part in (inner or {"": layer}).items():
            for i, value in enumerate(part.get_weights()):
                key = f"after/{BATCHES}/{name}/{number}{i}"
                np.testing.assert_allclose(
                    value, recorded[key], rtol=RELATIVE, atol=ABSOLUTE, err_msg=key
                )
                compared += 1
    assert compared == len([k for k in recorded if k.startswith(f"after/{BATCHES}/")])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["sequential", "functional"])
def test_whole_models_go_on(case: str, version: str) -> None:
    model = load_model(OLD / f"{case}_{version}")
    assert_goes_on(model, arrays_of(OLD / f"{case}_{version}_expected.npz"))


@pytest.mark.backends("tensorflow")  # which alone has text
@pytest.mark.parametrize("version", ["2_3", "2_4"])
def test_vocabularies_in_the_checkpoint(version: str) -> None:
    model = load_model(OLD / f"words_{version}")
    recorded = arrays_of(OLD / f"words_{version}_expected.npz")
    inputs = {k: v for k, v in recorded.items() if v.dtype.kind == "U"}
    import tensorflow as tf

    assert_goes_on(model, {**recorded, **{k: tf.constant(v) for k, v in inputs.items()}})


@pytest.mark.parametrize("version", VERSIONS)
def test_models_of_the_users_class_are_restored(version: str) -> None:
    path = OLD / f"own_{version}"
    with pytest.raises(MigrationError, match=r"class of your own.*restore\(path, model\)"):
        load_model(path)
    model = Own()
    model(np.zeros((1, 5), "float32"))
    restore(path, model)
    assert_goes_on(model, arrays_of(OLD / f"own_{version}_expected.npz"))


@pytest.mark.once
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_description(share: float, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "saved"
    shutil.copytree(OLD / "sequential_2_4", folder)
    file = folder / "saved_model.pb"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(MigrationError, match=r"saved_model\.pb"):
        load_model(folder)


@pytest.mark.once
@pytest.mark.parametrize(
    "metadata",
    [
        "",
        "[" * 50_000,
        "[]",
        "{}",
        '{"config": 5, "class_name": "Sequential"}',
        '{"config": {"layers": [{}]}, "class_name": "Sequential"}',
        '{"config": {"layers": [5]}, "class_name": "Model"}',
        '{"config": {"layers": []}, "class_name": "Sequential", "training_config": "x"}',
    ],
)
def test_another_description(metadata: str, tmp_path: pathlib.Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    folder = tmp_path / "saved"
    shutil.copytree(OLD / "sequential_2_4", folder)
    file = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    saved.meta_graphs[0].object_graph_def.nodes[0].user_object.metadata = metadata
    file.write_bytes(saved.SerializeToString())
    with pytest.raises(MigrationError):
        load_model(folder)


@pytest.mark.once
def test_a_savedmodel_of_another_object_is_named(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.weight = tf.Variable([1.0])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    with pytest.raises(MigrationError, match=r"without Keras's description.*model\.save"):
        load_model(tmp_path / "saved")
