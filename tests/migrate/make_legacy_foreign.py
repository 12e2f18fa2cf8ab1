"""Records models with optimizers that are not converted, and their outputs as the guide tells to.

Run it as `make_legacy_models.py`, beside which it lies: `make_legacy_foreign.py FOLDER [CASE ...]`.
"""

import contextlib
import os
import pathlib
import shutil
import sys

import make_legacy_architectures as architectures
import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa
from make_legacy_models import LOSSES, batches_for, keras, write_checkpoint
from make_legacy_optimizers import legacy, new

ADDONS = tfa.optimizers
FOREIGN = {
    # The original saved no state of it, and so it is not in `make_legacy_models.py`.
    "multi": lambda layers: ADDONS.MultiOptimizer(
        [(legacy.SGD(1e-2), layers[:2]), (legacy.Adam(1e-2), layers[2:])]
    ),
    "adagrad": lambda layers: new.Adagrad(1e-2),
    "adagrad_legacy": lambda layers: legacy.Adagrad(1e-2),
}
IN_EVERY_KIND = ("adagrad",)


def record_foreign(case, folder):
    keras.backend.clear_session()
    keras.utils.set_random_seed(sum(map(ord, case)))
    model = architectures.regressor()
    optimizer = FOREIGN[case](model.layers)
    model.compile(optimizer=optimizer, **LOSSES["regressor"])
    rng = np.random.default_rng(sum(map(ord, case)))
    for _ in range(3):
        (x,), (y,) = batches_for("regressor", rng)
        model.train_on_batch(x, y)
    model.save(folder / f"{case}.h5")
    if case in IN_EVERY_KIND:
        model.save(folder / f"{case}.keras")
        model.save(folder / f"{case}_savedmodel")
        write_checkpoint(model, optimizer, folder / f"{case}_checkpoint" / "ckpt")
        (folder / f"{case}_savedmodel" / "saved_model.pb").write_bytes(b"")
        shutil.rmtree(folder / f"{case}_savedmodel" / "assets", ignore_errors=True)
    with contextlib.chdir(folder):
        record_outputs(model, x)
        os.rename("recorded.npz", f"{case}_recorded.npz")


def record_outputs(model, x):
    """As the guide says."""
    inputs = [x[:8]]  # a few examples; one array for each input of the model
    outputs = model.predict(inputs if len(inputs) > 1 else inputs[0])
    np.savez(
        "recorded.npz",
        **{f"input_{i}": array for i, array in enumerate(inputs)},
        **{f"output_{i}": array for i, array in enumerate(tf.nest.flatten(outputs))},
    )


def main(folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for case in sys.argv[2:] or FOREIGN:
        record_foreign(case, folder)
        print(case, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
