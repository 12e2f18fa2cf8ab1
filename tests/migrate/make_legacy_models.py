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
from tensorflow.core.protobuf import saved_model_pb2

MODULES = (make_legacy_architectures, make_legacy_own, make_legacy_preprocessing)
keras = tf.keras
legacy = tf.keras.optimizers.legacy
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

new = tf.keras.optimizers
RADAM = tfa.optimizers.RectifiedAdam
LOOKAHEAD = tfa.optimizers.Lookahead
SCALED = tf.keras.mixed_precision.LossScaleOptimizer
CASES = {
    # TensorFlow Addons and the 2020 Nadam
    "radam_decay_clip": ("regressor", lambda: RADAM(3e-3, decay=0.05, clipnorm=0.5)),
    "radam_schedule": (
        "regressor",
        lambda: RADAM(
            new.schedules.ExponentialDecay(1e-2, 5, 0.9), weight_decay=1e-3, sma_threshold=4.0
        ),
    ),
    "radam_conv": ("image_classifier", lambda: RADAM(5e-3, amsgrad=True, total_steps=25)),
    "radam_two_inputs": ("two_inputs", lambda: RADAM(5e-3, weight_decay=1e-2, min_lr=1e-5)),
    "ranger_text": ("text_classifier", lambda: LOOKAHEAD(RADAM(1e-2), sync_period=3)),
    "ranger_attention": (
        "attention",
        lambda: LOOKAHEAD(RADAM(1e-3, total_steps=40, clipvalue=0.5), 6, 0.3),
    ),
    "lookahead_adam": ("regressor", lambda: LOOKAHEAD(legacy.Adam(1e-2), 5, 0.8)),
    "lookahead_sgd": ("regressor", lambda: LOOKAHEAD(legacy.SGD(1e-2, momentum=0.9), 4)),
    "nadam_text": ("text_classifier", lambda: legacy.Nadam(2e-3, schedule_decay=0.01)),
    "nadam_scaled": ("scaled_regressor", lambda: legacy.Nadam(epsilon=1e-4)),
    "radam_loss_scaled": ("regressor", lambda: SCALED(RADAM(5e-3, weight_decay=1e-2))),
    "ranger_fixed_scale": (
        "scaled_regressor",
        lambda: SCALED(LOOKAHEAD(RADAM(5e-3), 4), dynamic=False, initial_scale=128.0),
    ),
    "adam_loss_scaled": ("regressor", lambda: SCALED(new.Adam(5e-3), dynamic_growth_steps=6)),
    "ranger_mixed": ("mixed_regressor", lambda: LOOKAHEAD(RADAM(5e-3), 4)),
    "swa_adam": ("regressor", lambda: tfa.optimizers.SWA(legacy.Adam(1e-2), 3, 2)),
    "moving_average_text": (
        "text_classifier",
        lambda: tfa.optimizers.MovingAverage(RADAM(1e-2), 0.9, start_step=2, dynamic_decay=True),
    ),
    "radam_cyclical": (
        "regressor",
        lambda: RADAM(tfa.optimizers.Triangular2CyclicalLearningRate(1e-3, 1e-2, step_size=4)),
    ),
    "addons_adamw": ("text_classifier", lambda: tfa.optimizers.AdamW(1e-3, 5e-3, amsgrad=True)),
    "addons_sgdw": (
        "text_classifier",
        lambda: tfa.optimizers.SGDW(1e-3, 0.05, momentum=0.8, decay=0.1),
    ),
    "adabelief": (
        "text_classifier",
        lambda: tfa.optimizers.AdaBelief(5e-3, epsilon=1e-8, weight_decay=1e-2, total_steps=25),
    ),
    "yogi": (
        "text_classifier",
        lambda: tfa.optimizers.Yogi(1e-2, l1_regularization_strength=1e-3),
    ),
    "lazy_adam": ("text_classifier", lambda: tfa.optimizers.LazyAdam(5e-3, beta_2=0.99)),
    "lamb": (
        "text_classifier",
        lambda: tfa.optimizers.LAMB(1e-2, weight_decay=1e-2, exclude_from_weight_decay=["bias"]),
    ),
    "novograd": (
        "text_classifier",
        lambda: tfa.optimizers.NovoGrad(1e-2, weight_decay=1e-3, grad_averaging=True),
    ),
    "lookahead_lamb": ("regressor", lambda: LOOKAHEAD(tfa.optimizers.LAMB(1e-2), 4)),
    # tf.keras 2, OptimizerV2
    "sgd_legacy": ("regressor", lambda: legacy.SGD(0.05)),
    "sgd_momentum_legacy": (
        "image_classifier",
        lambda: legacy.SGD(0.05, momentum=0.9, nesterov=True, decay=0.02),
    ),
    "sgd_momentum_text_legacy": ("text_classifier", lambda: legacy.SGD(0.1, momentum=0.8)),
    "adam_legacy": ("text_classifier", lambda: legacy.Adam(5e-3, beta_2=0.99)),
    "adam_amsgrad_legacy": (
        "two_inputs",
        lambda: legacy.Adam(5e-3, amsgrad=True, epsilon=1e-3),
    ),
    "adam_decay_legacy": (
        "scaled_regressor",
        lambda: legacy.Adam(1e-2, decay=0.1, global_clipnorm=0.5),
    ),
    "rmsprop_legacy": ("regressor", lambda: legacy.RMSprop(2e-3, epsilon=1e-4)),
    "rmsprop_centered_legacy": (
        "regressor",
        lambda: legacy.RMSprop(2e-3, rho=0.8, momentum=0.5, centered=True),
    ),
    "rmsprop_momentum_text_legacy": (
        "text_classifier",
        lambda: legacy.RMSprop(2e-3, momentum=0.5, centered=True),
    ),
    "rmsprop_text_legacy": ("text_classifier", lambda: legacy.RMSprop(5e-3, centered=True)),
    # tf.keras 2.11 and later
    "sgd": ("regressor", lambda: new.SGD(0.05, clipnorm=0.5)),
    "radam_recurrent_stack": ("recurrent_stack", lambda: RADAM(5e-3)),
    "nadam_initial_state": ("initial_state", lambda: legacy.Nadam(5e-3)),
    "ranger_nested": ("nested", lambda: LOOKAHEAD(RADAM(5e-3, beta_2=0.99), 4)),
    "radam_normalized": ("normalized", lambda: RADAM(5e-3)),
    "nadam_addons_activations": ("addons_activations", lambda: legacy.Nadam(5e-3)),
    "radam_operations": ("operations", lambda: RADAM(5e-3)),
    "frozen": ("partly_frozen", lambda: RADAM(5e-3)),
    "subclassed": ("Subclassed", lambda: RADAM(5e-3)),
    "nadam_composite": ("composite", lambda: legacy.Nadam(5e-3)),
    "radam_addons_layers": ("addons_layers", lambda: RADAM(5e-3)),
    "radam_words": ("words", lambda: RADAM(5e-3)),
    "adam_codes": ("codes", lambda: "adam"),
    "containers": ("Containers", lambda: RADAM(5e-3)),
    "sgd_momentum": ("text_classifier", lambda: new.SGD(0.05, momentum=0.9, nesterov=True)),
    "adam": ("image_classifier", lambda: new.Adam(5e-3)),
    "adam_amsgrad": (
        "two_inputs",
        lambda: new.Adam(5e-3, amsgrad=True, weight_decay=1e-2, epsilon=1e-4),
    ),
    "adam_schedule": (
        "attention",
        lambda: new.Adam(new.schedules.PiecewiseConstantDecay([4, 13], [1e-2, 5e-3, 1e-3])),
    ),
    "adam_ema": (
        "regressor",
        lambda: new.Adam(1e-2, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=4),
    ),
    "adamw": ("regressor", lambda: new.AdamW(1e-2, weight_decay=0.02, clipnorm=0.5)),
    "adamw_text": ("text_classifier", lambda: new.AdamW(5e-3, amsgrad=True)),
    "rmsprop": ("regressor", lambda: new.RMSprop(2e-3, clipvalue=0.3)),
    "rmsprop_centered": (
        "two_inputs",
        lambda: new.RMSprop(2e-3, rho=0.8, momentum=0.5, centered=True),
    ),
    "nadam_2_11": ("regressor", lambda: new.Nadam(5e-3)),
}


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
