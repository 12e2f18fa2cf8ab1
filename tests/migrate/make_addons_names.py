"""Records the names that TensorFlow Addons 0.23 exported, and what some of them compute.

    originals/bin/python tests/migrate/make_addons_names.py

See `make_legacy_models.py` for `originals`.
"""

import json
import pathlib
import types

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

DATA = pathlib.Path(__file__).parent / "data"
# What the modules merely imported.
FOREIGN = {"Callable", "List", "Path", "Union", "Version", "get_path_to_datafile"}


def exports():
    found = {}
    for module_name, module in vars(tfa).items():
        if isinstance(module, types.ModuleType) and not module_name.startswith("_"):
            names = [
                name
                for name, value in vars(module).items()
                if not name.startswith("_") and not isinstance(value, types.ModuleType)
            ]
            found[module_name] = sorted(set(names) - FOREIGN)
    return {name: names for name, names in sorted(found.items()) if names}


def computed():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 5, 5, 8)).astype("float32")
    truth = rng.integers(0, 2, (6, 4)).astype("float32")
    guess = rng.uniform(0.05, 0.95, (6, 4)).astype("float32")
    gradients = rng.normal(size=(3, 4)).astype("float32")

    def metric(made):
        made.update_state(truth, guess)
        return made.result()

    def trained(optimizer):
        variable = tf.Variable([1.0, 2.0, 3.0, 4.0])
        for gradient in gradients:
            optimizer.apply_gradients([(tf.constant(gradient), variable)])
        return variable

    values = {
        "activations.gelu": tfa.activations.gelu(images),
        "activations.hardshrink": tfa.activations.hardshrink(images),
        "activations.softshrink": tfa.activations.softshrink(images),
        "activations.tanhshrink": tfa.activations.tanhshrink(images),
        "activations.mish": tfa.activations.mish(images),
        "losses.SigmoidFocalCrossEntropy": tfa.losses.SigmoidFocalCrossEntropy()(truth, guess),
        "layers.GroupNormalization": tfa.layers.GroupNormalization(4)(images),
        "layers.InstanceNormalization": tfa.layers.InstanceNormalization()(images),
        "metrics.F1Score": metric(tfa.metrics.F1Score(4, average="macro", threshold=0.5)),
        "metrics.FBetaScore": metric(tfa.metrics.FBetaScore(4, beta=2.0, threshold=0.5)),
        "metrics.RSquare": metric(tfa.metrics.RSquare()),
        "metrics.HammingLoss": metric(tfa.metrics.HammingLoss("multilabel", threshold=0.5)),
        "optimizers.AdamW": trained(tfa.optimizers.AdamW(0.01, learning_rate=0.1)),
        "optimizers.SGDW": trained(tfa.optimizers.SGDW(0.01, learning_rate=0.1)),
        "optimizers.LAMB": trained(tfa.optimizers.LAMB(0.1)),
        "image.rotate": tfa.image.rotate(images, 0.3, interpolation="bilinear"),
        "matrix": tfa.image.angles_to_projective_transforms(0.3, 5.0, 5.0),
    }
    inputs = {"images": images, "truth": truth, "guess": guess, "gradients": gradients}
    return inputs | {name: np.asarray(value) for name, value in values.items()}


(DATA / "addons_exports.json").write_text(json.dumps(exports()))
np.savez_compressed(DATA / "addons_computed.npz", **computed())
