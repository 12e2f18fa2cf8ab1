"""Records what optimizers of TensorFlow Addons computed, into ``tests/data/trajectories``.

Run it with the Python of ``make bench-tfa`` (TensorFlow 2.14, TensorFlow Addons 0.23), from the
root of the repository: ``.venv-tfa/bin/python tests/make_trajectories.py [CASE ...]``. It replaces
the cases named, by default all of ``CASES``; other recordings stay as they are.
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

FOLDER = pathlib.Path(__file__).parent / "data" / "trajectories"
SHAPES = {"kernel": (4, 3), "bias": (3,), "embedding": (6, 2)}
STEPS = 10
MISSING = {3: ("bias",), 4: ("bias", "kernel"), 7: ("embedding",)}


def exponential(start):
    return tf.keras.optimizers.schedules.ExponentialDecay(start, 10, 0.5)


# By name of the case: the class, its arguments, and what its config leaves out.
CASES = {
    "adamw": ("AdamW", {"weight_decay": 0.01, "learning_rate": 0.02}),
    "adamw_all": (
        "AdamW",
        {
            "weight_decay": exponential(0.01),
            "learning_rate": 0.02,
            "beta_1": 0.8,
            "beta_2": 0.95,
            "epsilon": 1e-3,
            "amsgrad": True,
            "decay": 0.1,
            "exclude_from_weight_decay": ["bias"],
        },
    ),
    "adamw_sparse": ("AdamW", {"weight_decay": 0.01, "learning_rate": 0.05, "amsgrad": True}),
    "adamw_lookahead": ("AdamW", {"weight_decay": 0.01, "learning_rate": 0.02}),
    "sgdw": ("SGDW", {"weight_decay": 0.01, "learning_rate": 0.05, "decay": 0.1}),
    "sgdw_momentum": (
        "SGDW",
        {"weight_decay": exponential(0.01), "learning_rate": exponential(0.02), "momentum": 0.5},
    ),
    "sgdw_nesterov": (
        "SGDW",
        {"weight_decay": 0.01, "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    ),
    "sgdw_sparse": ("SGDW", {"weight_decay": 0.01, "learning_rate": 0.05}),
    "sgdw_momentum_sparse": (
        "SGDW",
        {"weight_decay": 0.01, "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    ),
    "adabelief": ("AdaBelief", {"learning_rate": 0.02, "beta_2": 0.9}),
    "adabelief_all": (
        "AdaBelief",
        {
            "learning_rate": 0.02,
            "beta_1": 0.8,
            "beta_2": 0.95,
            "epsilon": 1e-5,
            "weight_decay": exponential(0.01),
            "amsgrad": True,
            "rectify": False,
            "total_steps": 8,
            "warmup_proportion": 0.25,
            "min_lr": 0.001,
            "decay": 0.1,
        },
    ),
    "adabelief_sparse": (
        "AdaBelief",
        {"learning_rate": 0.05, "beta_2": 0.9, "epsilon": 1e-3, "weight_decay": 0.01},
    ),
    "adabelief_lookahead": ("AdaBelief", {"learning_rate": 0.02, "beta_2": 0.9}),
    "yogi": ("Yogi", {"learning_rate": 0.02}),
    "yogi_all": (
        "Yogi",
        {
            "learning_rate": exponential(0.02),
            "beta1": 0.8,
            "beta2": 0.95,
            "epsilon": 0.01,
            "l1_regularization_strength": 0.1,
            "l2_regularization_strength": 0.1,
            "initial_accumulator_value": 0.01,
            "activation": "tanh",
            "decay": 0.1,
        },
    ),
    "yogi_without_m": ("Yogi", {"beta1": 0.0, "l2_regularization_strength": 0.1}),
    "yogi_sparse": ("Yogi", {"learning_rate": 0.05, "l1_regularization_strength": 0.1}),
    "yogi_lookahead": ("Yogi", {"learning_rate": 0.02}),
    "lazyadam": ("LazyAdam", {"learning_rate": exponential(0.02), "beta_2": 0.95, "decay": 0.1}),
    "lazyadam_sparse": ("LazyAdam", {"learning_rate": 0.05}),
    "lamb": ("LAMB", {"learning_rate": 0.02, "weight_decay": 0.01}),
    "lamb_all": (
        "LAMB",
        {
            "learning_rate": exponential(0.02),
            "beta_1": 0.8,
            "beta_2": 0.95,
            "epsilon": 1e-3,
            "weight_decay": 0.1,
            "exclude_from_weight_decay": ["bias"],
            "exclude_from_layer_adaptation": ["embed"],
            "decay": 0.1,
        },
    ),
    "lamb_sparse": (
        "LAMB",
        {"learning_rate": 0.05, "weight_decay": 0.1, "exclude_from_weight_decay": ["kernel"]},
    ),
    "lamb_lookahead": ("LAMB", {"learning_rate": 0.02}),
    "novograd": ("NovoGrad", {"learning_rate": 0.02}),
    "novograd_all": (
        "NovoGrad",
        {
            "learning_rate": exponential(0.02),
            "beta_1": 0.8,
            "beta_2": 0.95,
            "epsilon": 1e-3,
            "weight_decay": 0.1,
            "grad_averaging": True,
            "amsgrad": True,
            "decay": 0.1,
        },
        {"amsgrad": True, "decay": float(np.float32(0.1))},
    ),
    "novograd_sparse": ("NovoGrad", {"learning_rate": 0.05, "weight_decay": 0.1}),
    "novograd_lookahead": ("NovoGrad", {"learning_rate": 0.02}),
    "sgdw_lookahead": ("SGDW", {"weight_decay": 0.01, "learning_rate": 0.05, "momentum": 0.9}),
}


def gradients(step, sparse, random):
    for name, shape in SHAPES.items():
        dense = random.normal(size=shape) * 10.0 ** random.integers(-2, 1)
        if name in MISSING.get(step, ()):
            yield name, None
        elif sparse and name == "embedding":
            rows = random.integers(0, shape[0], size=random.integers(2, 5))
            yield name, (rows, random.normal(size=(len(rows), shape[1])))
        else:
            yield name, dense


def record(case):
    kind, arguments, *left_out = CASES[case]
    sparse = case.endswith("_sparse")
    optimizer = getattr(tfa.optimizers, kind)(**arguments)
    if case.endswith("_lookahead"):
        optimizer = tfa.optimizers.Lookahead(optimizer, sync_period=3)
    random = np.random.default_rng(sum(map(ord, case)))
    arrays = {f"start/{name}": random.normal(size=shape) for name, shape in SHAPES.items()}
    variables = {n: tf.Variable(arrays[f"start/{n}"], name=n, dtype="float64") for n in SHAPES}
    for step in range(1, STEPS + 1):
        given = dict(gradients(step, sparse, random))
        for name, gradient in given.items():
            if isinstance(gradient, tuple):
                arrays[f"grad/{step}/{name}/indices"], arrays[f"grad/{step}/{name}/values"] = (
                    gradient
                )
            elif gradient is not None:
                arrays[f"grad/{step}/{name}"] = gradient
        optimizer.apply_gradients([(_tensor(given[n]), v) for n, v in variables.items()])
        arrays |= {f"param/{step}/{n}": v.numpy() for n, v in variables.items()}
    inner = getattr(optimizer, "_optimizer", None)
    for prefix, owner in (("slot", optimizer), ("inner_slot", inner)):
        for slot in owner.get_slot_names() if owner is not None else ():
            for name, variable in variables.items():
                arrays[f"{prefix}/{slot}/{name}"] = owner.get_slot(variable, slot).numpy()
    weights = optimizer.get_weights()
    arrays |= {f"weights/{i}": np.asarray(w) for i, w in enumerate(weights)}
    np.savez_compressed(FOLDER / f"{case}.npz", **arrays)
    config = optimizer.get_config() | dict(*left_out)
    return {
        "name": case,
        "optimizer": type(optimizer).__name__,
        "steps": STEPS,
        "sparse": sparse,
        "slot_names": optimizer.get_slot_names(),
        "config": json.loads(json.dumps(config, default=_plain)),
    }


def _tensor(gradient):
    if isinstance(gradient, tuple):
        rows, values = gradient
        return tf.IndexedSlices(tf.constant(values), tf.constant(rows))
    return None if gradient is None else tf.constant(gradient)


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value.get_config()


def main(chosen):
    path = FOLDER / "index.json"
    index = json.loads(path.read_text())
    for case in chosen or CASES:
        others = [entry for entry in index["cases"] if entry["name"] != case]
        index["cases"] = [*others, record(case)]
    path.write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
