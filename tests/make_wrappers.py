"""Records what wrappers and schedules of TensorFlow Addons compute, step by step.

Run it with the original libraries (`make bench-tfa` sets them up), in this directory:

    ../.venv-tfa/bin/python make_wrappers.py [CASE ...]

It writes ``data/trajectories/CASE.npz`` and ``data/trajectories/wrappers.json``, and
``data/schedules.json``. Variables are float64 where the original can: in SWA, float32 numbers of
its own meet the variables, and a schedule that scales by iterations multiplies by float64 ones.
"""

import json
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

DATA = pathlib.Path(__file__).parent / "data"
ADDONS, LEGACY = tfa.optimizers, tf.keras.optimizers.legacy
SHAPES = {"kernel": (4, 3), "bias": (3,), "embedding": (6, 2)}


def sgd(rate=0.05):
    return LEGACY.SGD(rate, momentum=0.9)


def several(kernel, bias, embedding):
    """The bias is nobody's, and stays as it is."""
    del bias
    parts = [(sgd(), kernel), (ADDONS.RectifiedAdam(0.02), embedding)]
    return ADDONS.MultiOptimizer(
        optimizer_specs=[{"optimizer": part, "weights": [own.name]} for part, own in parts]
    )


# The optimizer; then, where it is not the usual: dtype, sparse, missing gradients by step, steps.
CASES = {
    "moving_average_sgd": (lambda: ADDONS.MovingAverage(sgd(), average_decay=0.9), {}),
    "moving_average_adam_dynamic": (
        lambda: ADDONS.MovingAverage(
            LEGACY.Adam(0.02), start_step=4, dynamic_decay=True, clipvalue=0.5
        ),
        {"steps": 30},
    ),
    "moving_average_radam_sparse": (
        lambda: ADDONS.MovingAverage(ADDONS.RectifiedAdam(0.05), 0.75, num_updates=3),
        {"sparse": True},
    ),
    "moving_average_missing": (
        lambda: ADDONS.MovingAverage(sgd(), average_decay=0.5),
        {"missing": {1: ("bias",), 2: ("bias",), 5: ("kernel", "embedding"), 6: ("kernel",)}},
    ),
    "lookahead_moving_average": (
        lambda: ADDONS.Lookahead(ADDONS.MovingAverage(sgd(), 0.5), sync_period=3),
        {},
    ),
    "swa_sgd": (
        lambda: ADDONS.SWA(sgd(), start_averaging=3, average_period=4),
        {"dtype": "float32", "steps": 24},
    ),
    "swa_radam_sparse": (
        lambda: ADDONS.SWA(ADDONS.RectifiedAdam(0.05), average_period=1),
        {"dtype": "float32", "sparse": True},
    ),
    "swa_missing": (
        lambda: ADDONS.SWA(sgd(), 2, 3),
        {
            "dtype": "float32",
            "missing": {3: ("bias",), 6: ("kernel",), 7: ("embedding",), 9: ("bias", "kernel")},
        },
    ),
    "swa_lookahead": (
        lambda: ADDONS.SWA(ADDONS.Lookahead(sgd(), sync_period=3), 1, 2),
        {"dtype": "float32"},
    ),
    "multi": (several, {"missing": {4: ("kernel",)}}),
    "radam_triangular": (
        lambda: ADDONS.RectifiedAdam(
            ADDONS.TriangularCyclicalLearningRate(0.001, 0.05, step_size=4)
        ),
        {"steps": 30},
    ),
    "radam_triangular2": (
        lambda: ADDONS.RectifiedAdam(
            ADDONS.Triangular2CyclicalLearningRate(0.01, 0.05, step_size=3)
        ),
        {},
    ),
    "lookahead_exponential": (
        lambda: ADDONS.Lookahead(
            sgd(ADDONS.ExponentialCyclicalLearningRate(0.01, 0.1, 5, gamma=0.9))
        ),
        {"dtype": "float32"},
    ),
}


def chain(optimizer):
    while optimizer is not None:
        yield optimizer
        optimizer = getattr(optimizer, "_optimizer", None)


def gradient(rng, name, sparse):
    if not (sparse and name == "embedding"):
        return rng.normal(size=SHAPES[name])
    indices = rng.integers(0, 6, size=4)  # some rows twice, some not at all
    return indices, rng.normal(size=(4, 2))


def record(case):
    make, how = CASES[case]
    how = {"dtype": "float64", "sparse": False, "missing": {}, "steps": 20, **how}
    rng = np.random.default_rng(sum(map(ord, case)))
    arrays = {f"start/{n}": rng.normal(size=s).astype(how["dtype"]) for n, s in SHAPES.items()}
    variables = {n: tf.Variable(arrays[f"start/{n}"], name=n) for n in SHAPES}
    optimizer = make(*variables.values()) if case == "multi" else make()
    for step in range(1, how["steps"] + 1):
        pairs = []
        for name, variable in variables.items():
            given = gradient(rng, name, how["sparse"])
            key = f"grad/{step}/{name}"
            if name in how["missing"].get(step, ()):
                continue
            if isinstance(given, tuple):
                indices, values = given[0], given[1].astype(how["dtype"])
                arrays |= {f"{key}/indices": indices, f"{key}/values": values}
                shape = tf.constant(SHAPES[name], tf.int64)
                given = tf.IndexedSlices(tf.constant(values), tf.constant(indices), shape)
            else:
                arrays[key] = given.astype(how["dtype"])
                given = tf.constant(arrays[key])
            pairs.append((given, variable))
        optimizer.apply_gradients(pairs)
        arrays |= {f"param/{step}/{n}": v.numpy() for n, v in variables.items()}
    slots = []
    for depth, part in enumerate(chain(optimizer)):
        for slot in part.get_slot_names():
            slots += [slot] if depth == 0 else []
            for name, variable in variables.items():
                kind = "inner_slot" if depth else "slot"
                arrays[f"{kind}/{slot}/{name}"] = part.get_slot(variable, slot).numpy()
    # In the order of the first gradients; inside of two wrappers there is a second counter.
    ordered = 1 not in how["missing"] and len(list(chain(optimizer))) < 3 and case != "multi"
    weights = optimizer.get_weights() if ordered else []
    arrays |= {f"weights/{i}": np.asarray(w) for i, w in enumerate(weights)}
    np.savez_compressed(
        DATA / "trajectories" / f"{case}.npz",
        **{k: v.astype("float64") if v.dtype == np.float32 else v for k, v in arrays.items()},
    )
    return {
        "name": case,
        "optimizer": type(optimizer).__name__,
        "steps": how["steps"],
        "sparse": how["sparse"],
        "dtype": how["dtype"],
        "slot_names": slots,
        "config": as_used(optimizer.get_config()),
    }


def as_used(config):
    """A config as a file has it, its numbers the float32 values that the run used."""
    if isinstance(config, LEGACY.Optimizer):
        config = tf.keras.optimizers.serialize(config)
    if isinstance(config, dict):
        in_schedule = "initial_learning_rate" in config
        return {k: v if in_schedule else as_used(v) for k, v in config.items()}
    if isinstance(config, list):
        return [as_used(entry) for entry in config]
    if isinstance(config, tf.keras.optimizers.schedules.LearningRateSchedule):
        return as_used(tf.keras.optimizers.schedules.serialize(config))
    if isinstance(config, float | np.floating):
        rounded = config > 1e-6  # epsilon is none of the variables, which are float32
        return float(np.float32(config) if rounded else config)
    return config


SCHEDULES = {
    "cycle": lambda: ADDONS.CyclicalLearningRate(0.001, 0.03, 7, lambda x: 1 / (1 + x)),
    "iterations": lambda: ADDONS.CyclicalLearningRate(
        0.1, 0.02, 2.5, lambda x: 1 / (1 + x), "iterations"
    ),
    "triangular": lambda: ADDONS.TriangularCyclicalLearningRate(0.001, 0.03, 7),
    "triangular2": lambda: ADDONS.Triangular2CyclicalLearningRate(1e-4, 0.1, 3),
    "triangular2_iterations": lambda: ADDONS.Triangular2CyclicalLearningRate(
        1e-4, 0.1, 3, "iterations"
    ),
    "exponential": lambda: ADDONS.ExponentialCyclicalLearningRate(0.001, 0.03, 5, gamma=0.97),
    "exponential_cycle": lambda: ADDONS.ExponentialCyclicalLearningRate(
        0.001, 0.03, 5.5, "cycle", 0.6
    ),
}
STEPS = [*range(40), 999, 123457]


def record_schedules():
    found = []
    for name, make in SCHEDULES.items():
        schedule = make()
        config = {k: v for k, v in schedule.get_config().items() if not callable(v)}
        values = [float(schedule(tf.constant(step, tf.float32))) for step in STEPS]
        found.append(
            {"name": name, "class": type(schedule).__name__, "config": config, "values": values}
        )
    path = DATA / "schedules.json"
    path.write_text(json.dumps({"steps": STEPS, "schedules": found}) + "\n")


def main():
    path = DATA / "trajectories" / "wrappers.json"
    known = json.loads(path.read_text())["cases"] if path.exists() else []
    index = {entry["name"]: entry for entry in known}
    for case in sys.argv[1:] or CASES:
        index[case] = record(case)
        print(case, flush=True)
    source = "TensorFlow 2.14.1, TensorFlow Addons 0.23.0, eager"
    lines = ",\n".join(json.dumps(index[case]) for case in CASES if case in index)
    path.write_text(f'{{"source": "{source}", "cases": [\n{lines}\n]}}\n')
    record_schedules()


if __name__ == "__main__":
    main()
