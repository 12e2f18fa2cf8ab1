"""Records SavedModels by TensorFlow 2.0 to 2.4 themselves, which had another form than 2.5's.

Run it where such an original is installed, once for each version:

    python3.7 -m venv old && old/bin/pip install tensorflow==2.0.4 "protobuf<3.21"
    old/bin/python tests/migrate/make_old_savedmodels.py tests/migrate/data/old_versions

(2.1.4 under Python 3.7, 2.3.4 and 2.4.4 under Python 3.8.) As in `make_legacy_models.py`, a case is
trained on ten batches, saved, and trained on ten more.
"""

import json
import os
import pathlib
import shutil
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

keras = tf.keras
BATCHES, SAVED_AFTER = 20, 10
VERSION = "_".join(tf.__version__.split(".")[:2])


class Own(keras.Model):
    """A model of the user's own class."""

    def __init__(self):
        super().__init__()
        self.blocks = [keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(4)]
        self.head = keras.layers.Dense(2)

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return self.head(inputs)

    def parts(self):
        return {"block0": self.blocks[0], "block1": self.blocks[1], "head": self.head}


def sequential():
    return keras.Sequential(
        [
            keras.layers.Dense(4, activation="tanh", input_shape=(5,), name="hidden"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.LeakyReLU(alpha=0.1),
            keras.layers.Dense(2, name="output"),
        ]
    )


def functional():
    """With a model inside that is called twice."""
    features = keras.Input((5,), name="features")
    words = keras.Input((3,), dtype="int32", name="words")
    inner = keras.Sequential([keras.layers.Dense(4, activation="relu"), keras.layers.Dense(5)])
    x = inner(inner(features))
    embedded = keras.layers.Embedding(7, 5, name="embedding")(words)
    if VERSION != "2_0":  # which could not write the configuration of such a model
        # With `causal=False` in its configuration.
        embedded = keras.layers.Attention()([embedded, embedded])
    x = keras.layers.Add()([x, keras.layers.GlobalAveragePooling1D()(embedded)])
    return keras.Model([features, words], keras.layers.Dense(2, name="output")(x), name="model")


def words():
    """With a vocabulary in a table of the checkpoint."""
    learned = keras.layers.experimental.preprocessing.TextVectorization(
        max_tokens=10, output_sequence_length=4, name="learned"
    )
    learned.adapt(np.array([["the cat sat"], ["the dog ran far"], ["cat and dog"]]))
    text = keras.Input((1,), dtype="string", name="text")
    x = keras.layers.Embedding(10, 3, name="embedding")(learned(text))
    x = keras.layers.GlobalAveragePooling1D(name="pooled")(x)
    return keras.Model(text, keras.layers.Dense(2, name="output")(x), name="words")


OPTIMIZERS = keras.optimizers
CASES = {
    "sequential": (sequential, lambda: OPTIMIZERS.Adam(5e-3, amsgrad=True), "mse"),
    "functional": (
        functional,
        lambda: OPTIMIZERS.Nadam(5e-3),
        keras.losses.Huber(delta=0.7),
    ),
    "words": (words, lambda: OPTIMIZERS.SGD(0.05), "mse"),
    "own": (Own, lambda: OPTIMIZERS.SGD(0.05, momentum=0.9, nesterov=True), "mse"),
}


def weights_by_layer(model, prefix=""):
    found = {}
    parts = model.parts() if hasattr(model, "parts") else {n.name: n for n in model.layers}
    for name, layer in parts.items():
        inner = {str(i): n for i, n in enumerate(getattr(layer, "layers", []))}
        for number, part in (inner or {"": layer}).items():
            for i, value in enumerate(part.get_weights() if name != "learned" else ()):
                found["{}{}/{}{}".format(prefix, name, number and number + "/", i)] = value
    return found


def without_graphs(file):
    """Drops the graphs of calls, most of the file and nothing that is read here."""
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in saved.meta_graphs:
        graph.ClearField("graph_def")
        graph.object_graph_def.ClearField("concrete_functions")
    file.write_bytes(saved.SerializeToString())


def record(case, folder):
    make, optimizer, loss = CASES[case]
    keras.backend.clear_session()
    seed = sum(map(ord, case))
    tf.random.set_seed(seed)
    rng = np.random.RandomState(seed)
    model = make()
    model.compile(optimizer=optimizer(), loss=loss)
    arrays = {}
    target = folder / f"{case}_{VERSION}"
    for step in range(BATCHES):
        inputs = [rng.normal(size=(8, 5)).astype("float32")]
        if case == "words":
            choice = ["the dog sat", "A cat, far away!", "a zebra ran", ""]
            inputs = [rng.choice(choice, (8, 1)).astype("U")]
        elif case == "functional":
            inputs.append(rng.randint(0, 7, (8, 3)).astype("int32"))
        targets = rng.normal(size=(8, 2)).astype("float32")
        for i, value in enumerate(inputs):
            arrays[f"batch/{step}/x/{i}"] = value
        arrays[f"batch/{step}/y/0"] = targets
        model.train_on_batch(inputs if len(inputs) > 1 else inputs[0], targets)
        done = step + 1
        if done in (SAVED_AFTER, BATCHES):
            for name, value in weights_by_layer(model).items():
                arrays[f"after/{done}/{name}"] = value
        if done == SAVED_AFTER:
            arrays["predicted"] = model.predict(inputs if len(inputs) > 1 else inputs[0])
            model.save(str(target), save_format="tf")
            shutil.rmtree(str(target / "assets"), ignore_errors=True)
            without_graphs(target / "saved_model.pb")
    np.savez_compressed(str(folder / f"{case}_{VERSION}_expected.npz"), **arrays)


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for case in sys.argv[2:] or CASES:
        if case == "words" and VERSION < "2_3":
            continue
        record(case, folder)
        print(case, tf.__version__, flush=True)
    file = folder / "versions.json"
    versions = json.loads(file.read_text()) if file.exists() else {}
    versions[VERSION] = tf.__version__
    file.write_text(json.dumps(versions, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
