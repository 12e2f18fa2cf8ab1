"""Heirs compute what names of TensorFlow Addons computed, with the differences that are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
import surefoot.migrate
from migrate.legacy_files import DATA, arrays_of

RECORDED = arrays_of(DATA / "addons_computed.npz")
IMAGES, TRUTH, GUESS = RECORDED["images"], RECORDED["truth"], RECORDED["guess"]


def metric(made: keras.metrics.Metric) -> Any:
    made.update_state(TRUTH, GUESS)
    return made.result()


def trained(optimizer: keras.optimizers.Optimizer) -> Any:
    variable = keras.Variable([1.0, 2.0, 3.0, 4.0])
    for gradient in RECORDED["gradients"]:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return variable.value


def focal(truth: Any, guess: Any) -> Any:
    loss = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True, reduction=None)
    return loss(truth, guess) * truth.shape[-1]  # a sum over classes, not their mean


HEIRS: dict[str, Callable[[], Any]] = {
    "activations.gelu": lambda: surefoot.migrate.tanh_gelu(IMAGES),
    "activations.hardshrink": lambda: keras.activations.hard_shrink(IMAGES),
    "activations.softshrink": lambda: keras.activations.soft_shrink(IMAGES),
    "activations.tanhshrink": lambda: keras.activations.tanh_shrink(IMAGES),
    "activations.mish": lambda: keras.activations.mish(IMAGES),
    "losses.SigmoidFocalCrossEntropy": lambda: focal(TRUTH, GUESS),
    "layers.GroupNormalization": lambda: keras.layers.GroupNormalization(4)(IMAGES),
    "layers.InstanceNormalization": lambda: keras.layers.GroupNormalization(-1)(IMAGES),
    "metrics.F1Score": lambda: metric(keras.metrics.F1Score("macro", threshold=0.5)),
    "metrics.FBetaScore": lambda: metric(keras.metrics.FBetaScore(beta=2.0, threshold=0.5)),
    "metrics.RSquare": lambda: metric(keras.metrics.R2Score()),
    "metrics.HammingLoss": lambda: 1 - metric(keras.metrics.BinaryAccuracy(threshold=0.5)),
    "optimizers.AdamW": lambda: trained(surefoot.AdamW(0.01, 0.1)),
    "optimizers.SGDW": lambda: trained(surefoot.SGDW(0.01, 0.1)),
    "optimizers.LAMB": lambda: trained(surefoot.LAMB(0.1)),
    "image.rotate": lambda: keras.ops.image.affine_transform(
        IMAGES, np.repeat(RECORDED["matrix"], len(IMAGES), 0)
    ),
}
# Float32, whose sums differ in their order. A difference in a formula is a hundred times that.
CLOSE = 1e-5


@pytest.mark.parametrize("name", HEIRS)
def test_an_heir_computes_the_same(name: str) -> None:
    found = keras.ops.convert_to_numpy(HEIRS[name]())
    np.testing.assert_allclose(found, RECORDED[name], rtol=CLOSE, atol=CLOSE)
