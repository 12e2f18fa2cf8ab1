"""A training that can be cut in two: the other half of ``test_persistence``.

``python continuing.py DIRECTORY`` runs in a new process: it loads what the test saved in
DIRECTORY, in every format, makes the second half of the steps and writes where it ended.
"""

from __future__ import annotations

import json
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import surefoot
from loops import BACKEND, COMPILED, Loop

HALF = 7
SHAPES = ((3, 2), (2,))

OPTIMIZERS: dict[str, Callable[[], keras.optimizers.Optimizer]] = {
    "radam": lambda: surefoot.RectifiedAdam(0.02, beta_2=0.95),
    "radam_all": lambda: surefoot.RectifiedAdam(
        keras.optimizers.schedules.ExponentialDecay(0.05, 5, 0.5),
        weight_decay=0.1,
        amsgrad=True,
        total_steps=10,
        decay=0.01,
        min_lr=1e-4,
        clipnorm=1.0,
        use_ema=True,
        ema_momentum=0.75,
    ),
    "nadam": lambda: surefoot.Nadam(0.02, schedule_decay=0.01, weight_decay=0.1),
    "accumulating": lambda: surefoot.Nadam(0.02, gradient_accumulation_steps=3),
    "lookahead": lambda: surefoot.Lookahead(surefoot.RectifiedAdam(0.02, beta_2=0.9), 4),
    "lookahead_sgd": lambda: surefoot.Lookahead(keras.optimizers.SGD(0.1, momentum=0.9), 4),
    "ranger": lambda: surefoot.Ranger(0.02, beta_2=0.95, weight_decay=0.1, sync_period=5),
    "ranger_bfloat16": lambda: surefoot.Ranger(
        0.02, amsgrad=True, sync_period=5, moments="bfloat16", slow_weights="bfloat16", seed=3
    ),
    "averages": lambda: surefoot.SWA(
        surefoot.MovingAverage(keras.optimizers.SGD(0.1, momentum=0.9), dynamic_decay=True), 2, 3
    ),
    "several": lambda: surefoot.MultiOptimizer(
        optimizer_specs=[
            {"optimizer": surefoot.Nadam(0.02), "weights": ["kernel", "gamma"]},
            {"optimizer": keras.optimizers.Adam(0.1), "weights": ["bias", "beta"]},
        ]
    ),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(
        surefoot.Lookahead(surefoot.Nadam(0.02), 4), initial_scale=16.0, dynamic_growth_steps=4
    ),
}

WHOLE_MODEL = ("keras", "weights.h5", "pickle") + (
    ("checkpoint",) if BACKEND == "tensorflow" else ()
)
ALONE = ("own_variables", "set_weights", "pickle_optimizer") + (
    ("stateless",) if BACKEND == "jax" else ()
)

# Those that are continued in a new process: between them they have every kind of state.
CONTINUED = (
    "radam_all",
    "nadam",
    "accumulating",
    "lookahead_sgd",
    "ranger_bfloat16",
    "averages",
    "several",
    "scaled",
)
# get_weights counts updates, as the originals' did; in between it does not say how far it is.
NOT_BY_WEIGHTS = ("accumulating",)


def forms_of(name: str) -> tuple[str, ...]:
    """The formats in which the named optimizer is saved."""
    if name == "scaled":
        return WHOLE_MODEL
    return WHOLE_MODEL + tuple(
        form for form in ALONE if form != "set_weights" or name not in NOT_BY_WEIGHTS
    )


def change_on_the_way(optimizer: keras.optimizers.Optimizer) -> None:
    """What a callback may have done before the save."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner = getattr(inner, "inner_optimizer", inner)
    inner = getattr(inner, "optimizers", [inner])[0]
    if isinstance(inner, surefoot.RectifiedAdam | surefoot.Nadam):
        inner.beta_1 = 0.8
    if not isinstance(getattr(inner, "_learning_rate", None), keras.Variable):
        return
    inner.learning_rate = 0.0123


# ---- a model under compile and fit ----


def new_model(name: str) -> keras.Model:
    """A small network with the named optimizer."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential(
        [
            keras.layers.Input((3,)),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.LayerNormalization(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(OPTIMIZERS[name](), loss="mse")
    return model


def train_model(model: keras.Model, first: int) -> None:
    """The half of the batches that begins with number ``first``."""
    random = np.random.default_rng(first)
    for _ in range(HALF):
        inputs = random.normal(size=(8, 3)).astype("float32")
        model.train_on_batch(inputs, np.sin(inputs.sum(axis=1, keepdims=True)))


def everything(model: keras.Model) -> list[np.ndarray]:
    """The model's weights and the optimizer's state."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    own = getattr(optimizer, "get_weights", list)()
    return [*model.get_weights(), *own]


def save_model(model: keras.Model, directory: Path, form: str) -> None:
    """Save the model and its optimizer in one of ``WHOLE_MODEL``."""
    if form == "keras":
        model.save(directory / "whole.keras")
    elif form == "weights.h5":
        model.save_weights(directory / "whole.weights.h5")
    elif form == "pickle":
        (directory / "whole.pickle").write_bytes(pickle.dumps(model))
    elif form == "checkpoint":
        import tensorflow as tf

        tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(
            str(directory / "checkpoint")
        )


def load_model(name: str, directory: Path, form: str) -> keras.Model:
    """The model as ``save_model`` saved it."""
    if form == "keras":
        return keras.models.load_model(directory / "whole.keras")
    if form == "pickle":
        return pickle.loads((directory / "whole.pickle").read_bytes())
    model = new_model(name)
    change_on_the_way(model.optimizer)
    model.optimizer.build(model.trainable_variables)
    if form == "weights.h5":
        model.load_weights(directory / "whole.weights.h5")
    elif form == "checkpoint":
        import tensorflow as tf

        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        checkpoint.read(str(directory / "checkpoint")).assert_consumed()
    return model


# ---- an optimizer in a loop of one's own ----


def new_loop(name: str, optimizer: keras.optimizers.Optimizer | None = None) -> Loop:
    """The named optimizer, or the given one, with variables of its own."""
    start = [np.random.default_rng(3).normal(size=shape) for shape in SHAPES]
    return Loop(optimizer or OPTIMIZERS[name](), start, mode=COMPILED, names=["kernel", "bias"])


def train_loop(loop: Loop, first: int) -> None:
    """The half of the steps that begins with number ``first``."""
    random = np.random.default_rng(first)
    for _ in range(HALF):
        loop.step([random.normal(size=shape) for shape in SHAPES])


def save_loop(loop: Loop, directory: Path, form: str) -> None:
    """Save the variables and the optimizer in one of ``ALONE``."""
    optimizer = loop.optimizer
    np.savez(directory / f"{form}_variables.npz", *[p.astype("float32") for p in loop.parameters])
    if form == "own_variables":
        store: dict[str, np.ndarray] = {}
        optimizer.save_own_variables(store)
        np.savez(directory / "own_variables.npz", **store)
    elif form == "set_weights":
        np.savez(directory / "set_weights.npz", *optimizer.get_weights())
    elif form == "pickle_optimizer":
        (directory / "optimizer.pickle").write_bytes(pickle.dumps(optimizer))
    elif form == "stateless":
        # NumPy's files have no bfloat16, which float32 represents exactly.
        values = [np.asarray(v.value) for v in optimizer.variables]
        plain = [x.astype("float32") if x.dtype.name == "bfloat16" else x for x in values]
        np.savez(directory / "stateless.npz", *plain)


def load_loop(name: str, directory: Path, form: str) -> Loop:
    """The loop as ``save_loop`` saved it."""
    optimizer = None
    if form == "pickle_optimizer":
        optimizer = pickle.loads((directory / "optimizer.pickle").read_bytes())
    loop = new_loop(name, optimizer)
    optimizer = loop.optimizer
    for variable, value in zip(
        loop.variables, in_order(directory / f"{form}_variables.npz"), strict=True
    ):
        variable.assign(value)
    if not optimizer.built:
        optimizer.build(loop.variables)
    if form == "own_variables":
        with np.load(directory / "own_variables.npz") as store:
            optimizer.load_own_variables(dict(store))
    elif form == "set_weights":
        change_on_the_way(optimizer)
        optimizer.set_weights(in_order(directory / "set_weights.npz"))
    elif form == "stateless":
        change_on_the_way(optimizer)
        state = in_order(directory / "stateless.npz")
        for variable, value in zip(optimizer.variables, state, strict=True):
            variable.assign(value)
    return loop


def in_order(path: Path) -> list[np.ndarray]:
    """The arrays of a file written by ``numpy.savez`` without names."""
    with np.load(path) as data:
        return [data[f"arr_{i}"] for i in range(len(data.files))]


def ending(loop: Loop) -> list[np.ndarray]:
    """Variables and state of a loop."""
    return [*loop.parameters, *loop.optimizer.get_weights()]


def main(directory: Path) -> None:
    """Make the second half of everything saved in ``directory``; an error is a result, too."""
    errors = {}
    for folder in sorted(path for path in directory.iterdir() if path.is_dir()):
        name = folder.name
        for form in json.loads((folder / "forms.json").read_text()):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    warnings.filterwarnings("ignore", message="__array__ implementation")
                    end = continued(name, folder, form)
            except Exception as error:
                errors[f"{name}/{form}"] = f"{type(error).__name__}: {error}"
            else:
                np.savez(folder / f"{form}_end.npz", *end)
    (directory / "errors.json").write_text(json.dumps(errors))


def continued(name: str, folder: Path, form: str) -> list[Any]:
    """Where one training ends that was saved in one form."""
    if form in WHOLE_MODEL:
        model = load_model(name, folder, form)
        train_model(model, HALF)
        return everything(model)
    loop = load_loop(name, folder, form)
    train_loop(loop, HALF)
    return ending(loop)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
