"""The memory of a training is known before it begins, and is what variables take then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import to_numpy
from surefoot.variables.keras_optimizer import with_inner_optimizers
from surefoot.variables.slots import SlotRegistry

SHAPES = ((6, 5), (7,), ())
COUNT = 38
MAKE: dict[str, Callable[..., Any]] = {
    "radam": surefoot.RectifiedAdam,
    "amsgrad": lambda **o: surefoot.RectifiedAdam(amsgrad=True, **o),
    "averaging": lambda **o: surefoot.Nadam(use_ema=True, gradient_accumulation_steps=2, **o),
    "nearest": lambda **o: surefoot.Nadam(low_precision="nearest", **o),
    "ranger": surefoot.Ranger,
    "ranger_bfloat16": lambda **o: surefoot.Ranger(slow_weights="bfloat16", **o),
    "lamb": surefoot.LAMB,
    "novograd": lambda **o: surefoot.NovoGrad(amsgrad=True, **o),
    "averages": lambda **o: surefoot.SWA(surefoot.Nadam(**o), use_ema=True),
    "scaled": lambda **o: keras.optimizers.LossScaleOptimizer(surefoot.Ranger(**o)),
}


@pytest.mark.parametrize("moments", ["float32", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", MAKE)
def test_the_plan_is_what_is_allocated(name: str, dtype: str, moments: str) -> None:
    variables = [keras.Variable(np.ones(shape), dtype=dtype) for shape in SHAPES]
    optimizer = MAKE[name](moments=moments)
    plan = surefoot.memory(optimizer, variables)
    optimizer.build(variables)
    slots = [
        slot
        for one in with_inner_optimizers(optimizer)
        for name, slot in getattr(one, "slots", SlotRegistry()).named().items()
        if not name.startswith("built|")
    ]
    allocated = sum(to_numpy(slot).nbytes for slot in slots)
    assert surefoot.memory(optimizer) == plan
    assert plan.parameters == COUNT
    size = COUNT * (4 if dtype == "float32" else 2)
    assert plan.bytes["parameters"] == plan.bytes["gradients"] == size
    assert plan.total == allocated + 2 * size


def test_what_bfloat16_saves() -> None:
    variables = [keras.Variable(np.ones((100, 10)), dtype="bfloat16")]
    sizes = surefoot.memory(surefoot.Nadam(moments="bfloat16"), variables).per_parameter
    assert sizes == {"parameters": 2, "gradients": 2, "moments": 4, "master": 2}
    sizes = surefoot.memory(
        surefoot.Nadam(), [keras.Variable(np.ones(10, "float32"))]
    ).per_parameter
    assert sizes == {"parameters": 4, "gradients": 4, "moments": 8}


def test_what_an_optimizer_of_keras_has_is_known_once_it_is_built() -> None:
    variables = [keras.Variable(np.ones((3, 2), "float32"))]
    optimizer = surefoot.Lookahead(keras.optimizers.Adam())
    with pytest.raises(ValueError, match="known after"):
        surefoot.memory(optimizer, variables)
    optimizer.build(variables)
    assert surefoot.memory(optimizer).per_parameter["state of Adam"] == 8


def test_parts_of_a_multi_optimizer() -> None:
    variables = [
        keras.Variable(np.ones(shape, "float32"), name=n) for shape, n in ((5, "a"), (7, "b"))
    ]
    optimizer = surefoot.MultiOptimizer(
        optimizer_specs=[
            {"optimizer": surefoot.Nadam(moments="bfloat16"), "weights": ["a"]},
            {"optimizer": surefoot.Ranger(), "weights": ["b"]},
        ]
    )
    with pytest.raises(ValueError, match="has not been built"):
        surefoot.memory(optimizer, variables)
    optimizer.build(variables)
    assert surefoot.memory(optimizer).bytes["moments"] == 5 * 4 + 7 * 8
    assert surefoot.memory(optimizer).bytes["slow weights"] == 7 * 4


def test_of_a_model_and_in_diagnostics() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    model.compile(surefoot.RectifiedAdam(moments="bfloat16"), "mse")
    plan = surefoot.memory(model)
    assert plan.parameters == 25
    assert "moments" in str(plan)
    model.train_on_batch(np.ones((8, 4)), np.ones((8, 5)))
    assert surefoot.diagnostics.Diagnostics(model.optimizer).memory() == plan


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="variables=None"):
        surefoot.memory(surefoot.Nadam())
    with pytest.raises(TypeError, match="'adam'"):
        surefoot.memory("adam")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    with pytest.raises(TypeError, match="compiled model"):
        surefoot.memory(model)
