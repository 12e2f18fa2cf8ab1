"""The originals: TensorFlow Addons 0.23 and tf.keras 2 on TensorFlow 2.14."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_addons as tfa

from benchmarks.backends.tensorflow_modes import gradients, running
from benchmarks.contenders import ADAM_BYTES, RANGER_BYTES, Contender, Entry, Running, Tensors

__all__ = ["contenders", "gradients"]


def contenders(mode: str) -> list[Contender]:
    def build(make: Callable[[], Any]) -> Callable[[Tensors, Any], Running]:
        def built(values: Tensors, grads: Any) -> Running:
            variables = [tf.Variable(value) for value in values]
            optimizer = make()
            # The slots must be there before a graph is traced.
            optimizer.apply_gradients(zip(grads, variables, strict=True))
            return running(
                mode,
                lambda: optimizer.apply_gradients(zip(grads, variables, strict=True)),
                variables,
            )

        return built

    rectified = tfa.optimizers.RectifiedAdam
    nadam = tf.keras.optimizers.legacy.Nadam
    entries = {
        "tfa RectifiedAdam": Entry(rectified),
        "tfa RectifiedAdam weight_decay": Entry(lambda: rectified(weight_decay=1e-2)),
        "tfa RectifiedAdam clipvalue": Entry(lambda: rectified(clipvalue=1.0)),
        "tfa RectifiedAdam amsgrad": Entry(
            lambda: rectified(amsgrad=True), floor="amsgrad", bytes_per_parameter=ADAM_BYTES + 8
        ),
        "tfa Lookahead(RectifiedAdam)": Entry(
            lambda: tfa.optimizers.Lookahead(rectified()),
            bytes_per_parameter=RANGER_BYTES,
            period=6,
        ),
        "tf.keras 2 Nadam": Entry(nadam),
        "tf.keras 2 Adam": Entry(tf.keras.optimizers.legacy.Adam),
    }
    return [entry.contender(name, build(entry.make)) for name, entry in entries.items()]
