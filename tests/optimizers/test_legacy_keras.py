"""What tf_keras, Keras 2 under a name of its own, is told when it is handed an optimizer.

It is not among the packages of a developer. What it does with an optimizer stands here as in
its `Model._validate_compile`, in a module of its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

import surefoot

VALIDATE = """
def validate(optimizer):
    for v in getattr(optimizer, "_weights", []):
        raise AssertionError(v)

class Adam:
    pass
"""


def module(name: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": name}
    exec(VALIDATE, names)
    return names


TF_KERAS = module("tf_keras.src.engine.training")

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "RectifiedAdam": surefoot.RectifiedAdam,
    "Nadam": surefoot.Nadam,
    "Lookahead": lambda: surefoot.Lookahead(keras.optimizers.SGD()),
    "Ranger": surefoot.Ranger,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_compiling_a_model_of_tf_keras_names_the_way_out(name: str) -> None:
    with pytest.raises(TypeError, match=f"surefoot's {name}.*TF_USE_LEGACY_KERAS.*import keras"):
        TF_KERAS["validate"](OPTIMIZERS[name]())


def test_nobody_else_is_refused() -> None:
    optimizer = surefoot.Nadam()
    module("training")["validate"](optimizer)
    assert not hasattr(optimizer, "_weights")


def test_an_optimizer_of_tf_keras_inside_of_ours_names_the_way_out() -> None:
    with pytest.raises(TypeError, match=r"of type Adam.*TF_USE_LEGACY_KERAS.*import keras"):
        surefoot.Lookahead(TF_KERAS["Adam"]())
    with pytest.raises(TypeError, match=r"of type Adam\)\.$"):
        surefoot.Lookahead(module("mine")["Adam"]())
