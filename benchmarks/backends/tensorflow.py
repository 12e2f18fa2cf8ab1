"""TensorFlow: eager, `tf.function`, and `tf.function(jit_compile=True)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from benchmarks.backends.tensorflow_modes import device_costs, device_floor, gradients, running
from benchmarks.contenders import Build, Contender, Running, Tensors, keras_optimizers

__all__ = ["contenders", "device_costs", "device_floor", "gradients"]


def contenders(mode: str) -> list[Contender]:
    def build(make: Callable[[], Any]) -> Build:
        def built(values: Tensors, grads: Any) -> Running:
            variables = [keras.Variable(value) for value in values]
            optimizer = make()
            optimizer.build(variables)
            return running(
                mode,
                lambda: optimizer.apply(grads, variables),
                [variable.value for variable in variables],
            )

        return built

    return [entry.contender(name, build(entry.make)) for name, entry in keras_optimizers().items()]
