"""Records models saved by TensorFlow 2.14 and TensorFlow Addons 0.23 themselves.

Run it where the originals are installed, which is never where the tests run:

    python3.11 -m venv originals
    originals/bin/pip install tensorflow-cpu==2.14.1 tensorflow-addons==0.23.0 "numpy<2"
    originals/bin/python tests/migrate/make_legacy_models.py tests/migrate/data/recorded

Every case is a model and an optimizer: trained on ten batches, saved in the four
file kinds, then trained on ten further batches with its weights noted after each.
Those in FOREIGN have an optimizer that is not converted: their outputs are noted.
"""

import json
import os
import pathlib
import shutil
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# Found beside this file when it is run.
import make_legacy_architectures
import make_legacy_own
import make_legacy_preprocessing
import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
from make_legacy_optimizers import CASES, legacy
from tensorflow.core.protobuf import saved_model_pb2

MODULES = (make_legacy_architectures, make_legacy_own, make_legacy_preprocessing)
keras = tf.keras
BATCHES = 20
SAVED_AFTER = 10


def batches_for(name, rng):
    """Inputs and targets of one batch, as lists in the model's own order."""
    n = 8
    numbers = {
        "recurrent_stack": (4, 3),
        "image_classifier": (6, 6, 2),
        "addons_layers": (4, 4, 4),
        "two_inputs": (4,),
    }
    words = {"initial_state": (5, 9), "text_classifier": (7, 12), "attention": (5, 11)}
    inputs, targets = [], []
    if name == "words":
        inputs = [
            rng.choice(["the dog sat", "A cat, far away!", "a zebra ran", ""], (n, 1)).astype("U"),
            rng.choice(["red", "green", "blue", "black", "white"], (n, 1)).astype("U"),
        ]
    elif name == "codes":
        inputs = [rng.choice([7, 12, 36, 5, -3], (n, 1)), rng.normal(size=(n, 2)).astype("float32")]
    elif name in words:
        length, vocabulary = words[name]
        inputs = [rng.integers(0, vocabulary, (n, length)).astype("int32")]
    else:
        inputs = [rng.normal(size=(n, *numbers.get(name, (5,)))).astype("float32")]
    if name == "two_inputs":
        inputs.append(rng.integers(0, 9, (n, 3)).astype("int32"))
        targets = [
            rng.normal(size=(n, 1)).astype("float32"),
            rng.integers(0, 2, (n, 1)).astype("int32"),
        ]
    elif name == "text_classifier":
        targets = [rng.integers(0, 3, (n, 1)).astype("int32")]
    elif name == "image_classifier":
        targets = [np.eye(3, dtype="float32")[rng.integers(0, 3, n)]]
    elif name == "initial_state":
        targets = [rng.integers(0, 2, (n, 2)).astype("float32")]
    else:
        targets = [rng.normal(size=(n, 1 if name == "regressor" else 2)).astype("float32")]
    return inputs, targets


LOSSES = {
    "recurrent_stack": dict(loss="mse"),
    "initial_state": dict(
        loss=keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
        metrics=[keras.metrics.AUC(from_logits=True, name="auc")],
        weighted_metrics=["mae"],
    ),
    "nested": dict(loss="mae", metrics=["mse", "mae"]),
    "operations": dict(loss="mse"),
    "regressor": dict(loss="mse", metrics=["mae"]),
    "mixed_regressor": dict(loss="mse"),
    "scaled_regressor": dict(loss=keras.losses.Huber(delta=0.7)),
    "partly_frozen": dict(loss="mean_squared_error"),
    "Subclassed": dict(loss="mse"),
    "composite": dict(loss="mse"),
    "words": dict(loss="mse"),
    "codes": dict(loss="mse"),
    "addons_layers": dict(
        loss="mse",
        metrics=[
            tfa.metrics.F1Score(num_classes=2, average="macro", threshold=0.2, name="f1"),
            tfa.metrics.FBetaScore(num_classes=2, average="weighted", beta=2.0, threshold=0.1),
        ],
    ),
    "Containers": dict(loss="mse"),
    "image_classifier": dict(
        loss=keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    ),
    "text_classifier": dict(
        loss="sparse_categorical_crossentropy",
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="right")],
    ),
    "two_inputs": dict(
        loss={"value": "mse", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"value": 1.0, "kind": 0.5},
        metrics={"value": ["mae"]},
    ),
    "attention": dict(loss="mean_absolute_error"),
    "normalized": dict(loss="mse"),
    "addons_activations": dict(loss="mse"),
}

# Keras 2 could not write learned vocabularies into `.h5`.
WITHOUT_H5 = ("words", "codes")


def weights_by_layer(model, prefix=""):
    """`layer/index` -> array, in the layer's own get_weights order, nested models opened."""
    found = {}
    parts = model.parts() if hasattr(model, "parts") else {n.name: n for n in model.layers}
    for name, layer in parts.items():
        if isinstance(layer, keras.Model) or hasattr(layer, "parts"):
            found.update(weights_by_layer(layer, f"{prefix}{name}/"))
        else:
            for i, value in enumerate(layer.get_weights()):
                if np.asarray(value).dtype.kind != "O":  # the words of a table
                    found[f"{prefix}{name}/{i}"] = value
    return found


def averages(model, optimizer):
    """The averages of the weights, if the optimizer has them; it puts them into the model."""
    if not hasattr(optimizer, "assign_average_vars"):
        return {}
    optimizer.assign_average_vars(model.trainable_variables)
    return {f"averages/{BATCHES}/{name}": v for name, v in weights_by_layer(model).items()}


def write_checkpoint(model, optimizer, prefix):
    tf.train.Checkpoint(model=model, optimizer=optimizer).write(str(prefix))


def cut_graphs(file, architecture):
    """Drop the graphs of calls, most of a SavedModel and nothing that is read here."""
    if architecture not in WITHOUT_H5:
        file.write_bytes(b"")
        return
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    graph = saved.meta_graphs[0]
    graph.graph_def.ClearField("library")
    constants = [node for node in graph.graph_def.node if node.op == "Const"]
    graph.graph_def.ClearField("node")
    graph.graph_def.node.extend(constants)
    for function in graph.object_graph_def.concrete_functions.values():
        function.ClearField("canonicalized_input_signature")
        function.ClearField("output_signature")
    file.write_bytes(saved.SerializeToString())


def record(case, folder):
    architecture, make_optimizer = CASES[case]
    keras.backend.clear_session()
    keras.mixed_precision.set_global_policy("float32")
    keras.utils.set_random_seed(sum(map(ord, case)))
    model = next(vars(m)[architecture] for m in MODULES if architecture in vars(m))()
    optimizer = make_optimizer()
    model.compile(optimizer=optimizer, **LOSSES[architecture])
    optimizer = model.optimizer
    rng = np.random.default_rng(sum(map(ord, case)))
    arrays = {}
    for step in range(BATCHES):
        inputs, targets = batches_for(architecture, rng)
        for i, value in enumerate(inputs):
            arrays[f"batch/{step}/x/{i}"] = value
        for i, value in enumerate(targets):
            arrays[f"batch/{step}/y/{i}"] = value
        model.train_on_batch(
            inputs if len(inputs) > 1 else inputs[0], targets if len(targets) > 1 else targets[0]
        )
        done = step + 1
        if done >= SAVED_AFTER:
            for name, value in weights_by_layer(model).items():
                arrays[f"after/{done}/{name}"] = value
        if done == SAVED_AFTER and architecture in ("Subclassed", "Containers"):
            write_checkpoint(model, optimizer, folder / f"{case}_checkpoint" / "ckpt")
            if architecture == "Containers":
                arrays["predicted"] = model.predict(inputs[0], verbose=0)
                model.save_weights(folder / f"{case}_weights" / "ckpt")
        elif done == SAVED_AFTER:
            arrays["predicted"] = model.predict(inputs if len(inputs) > 1 else inputs[0], verbose=0)
            if architecture == "addons_layers":
                labels = (targets[0] > 0).astype("float32")
                arrays["evaluated"] = np.array(model.evaluate(inputs[0], labels, verbose=0))
            if architecture not in WITHOUT_H5:
                model.save(folder / f"{case}.h5")
            model.save(folder / f"{case}.keras")
            model.save(folder / f"{case}_savedmodel")
            # Of the mixed one TensorFlow does not write the slots then.
            if architecture not in ("mixed_regressor", *WITHOUT_H5):
                write_checkpoint(model, optimizer, folder / f"{case}_checkpoint" / "ckpt")
            cut_graphs(folder / f"{case}_savedmodel" / "saved_model.pb", architecture)
            shutil.rmtree(folder / f"{case}_savedmodel" / "assets", ignore_errors=True)
    arrays |= averages(model, optimizer)
    np.savez_compressed(folder / f"{case}_expected.npz", **arrays)
    return {
        "model": architecture,
        "optimizer": type(model.optimizer).__name__,
        "legacy": isinstance(getattr(optimizer, "inner_optimizer", optimizer), legacy.Optimizer),
    }


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[2:] or CASES
    index_file = folder / "index.json"
    index = json.loads(index_file.read_text())["cases"] if index_file.exists() else {}
    for case in wanted:
        index[case] = record(case, folder)
        print(case, index[case], flush=True)
    source = f"TensorFlow {tf.__version__}, TensorFlow Addons {tfa.__version__}"
    index_file.write_text(json.dumps({"source": source, "cases": index}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
