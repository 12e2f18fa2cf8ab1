"""Every argument against values of every wrong kind: a TypeError or ValueError that names it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import to_numpy
from optimizers.test_arguments import ALL, LOOKAHEAD, MOMENT, NADAM, WITH_PERIOD, WITH_WARMUP, make
from surefoot.state.hyperparameters import Hyperparameter

pytestmark = pytest.mark.once

NUMBERS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("learning_rate", "beta_1", "beta_2", "epsilon", "weight_decay"), MOMENT),
    "seed": MOMENT,
    **dict.fromkeys(("total_steps", "warmup_proportion", "min_lr", "sma_threshold"), WITH_WARMUP),
    "decay": WITH_WARMUP,
    **dict.fromkeys(("sync_period", "slow_step_size"), WITH_PERIOD),
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"), ALL),
    **dict.fromkeys(("gradient_accumulation_steps", "ema_overwrite_frequency"), ALL),
    "ema_momentum": ALL,
    "schedule_decay": (NADAM,),
}
FLAGS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("use_ema", "shard_state"), ALL),
    "lazy": MOMENT,
    "amsgrad": WITH_WARMUP,
}
WORDS: dict[str, tuple[type, ...]] = {
    "nonfinite": ALL,
    "low_precision": MOMENT,
    "unrectified_update": WITH_WARMUP,
    "finalize": WITH_PERIOD,
}

WRONG: dict[str, Callable[[], Any]] = {
    "too large": lambda: 10**400,
    "too small": lambda: -(10**400),
    "with more digits than Python prints": lambda: 10**5000,
    "large fraction": lambda: Fraction(10**400),
    "large decimal": lambda: Decimal("1e400"),
    "list of one": lambda: [0.5],
    "array of one": lambda: np.array([0.5]),
    "matrix of one": lambda: np.array([[1]]),
    "tensor of one": lambda: keras.ops.ones((1,)),
    "array": lambda: np.array([1.0, 2.0]),
    "complex": lambda: 1j,
    "complex array": lambda: np.array(1j),
    "text": lambda: "1",
    "bytes": lambda: b"1",
    "dictionary": dict,
    "object": object,
}


def pairs(arguments: dict[str, tuple[type, ...]]) -> list[Any]:
    return [
        pytest.param(cls, name, id=f"{cls.__name__}-{name}")
        for name, classes in arguments.items()
        for cls in classes
    ]


@pytest.mark.parametrize(("cls", "name"), pairs(NUMBERS | FLAGS | WORDS))
def test_wrong_kind_is_refused_by_name(cls: type, name: str) -> None:
    for wrong in WRONG.values():
        options = {name: wrong()} | ({"use_ema": True} if name.startswith("ema_") else {})
        with pytest.raises((TypeError, ValueError), match=rf"`{name}`.*Received: {name}="):
            make(cls, **options)


@pytest.mark.parametrize(("cls", "name"), pairs(NUMBERS))
def test_wrong_kind_is_refused_when_written_later(cls: type, name: str) -> None:
    optimizer = make(cls)
    if not isinstance(getattr(cls, name, None), property | Hyperparameter):
        return  # fixed at construction
    if name == "seed":
        return
    before = optimizer.get_config()
    for wrong in WRONG.values():
        with pytest.raises((TypeError, ValueError), match=rf"`{name}`.*Received: {name}="):
            setattr(optimizer, name, wrong())
    assert optimizer.get_config() == before


@pytest.mark.parametrize("make_scalar", [np.array, np.float32, keras.ops.convert_to_tensor])
@pytest.mark.parametrize(("cls", "name"), pairs(NUMBERS))
def test_a_scalar_of_any_library_is_taken(
    cls: type, name: str, make_scalar: Callable[[float], Any]
) -> None:
    if name in ("gradient_accumulation_steps", "ema_overwrite_frequency"):
        return  # whole numbers of Python and NumPy
    value = 3.0 if name in ("seed", "total_steps", "sync_period") else 0.5
    config = make(cls, **{name: make_scalar(value)}).get_config()
    assert config[name] == value


@pytest.mark.parametrize(("cls", "name"), pairs(FLAGS))
def test_flags_of_numpy_are_taken(cls: type, name: str) -> None:
    assert make(cls, **{name: np.False_}).get_config()[name] is False


@pytest.mark.parametrize("cls", ALL)
def test_iterations_of_a_wrong_kind(cls: type) -> None:
    optimizer = make(cls)
    for wrong in (*WRONG.values(), lambda: 2**63, lambda: 2**70):
        with pytest.raises((TypeError, ValueError), match="Received: iterations="):
            optimizer.iterations = wrong()
    assert int(to_numpy(optimizer.iterations)) == 0


CONFIGS = [
    {},
    {"class_name": "Adam"},
    {"class_name": "Adam", "config": None},
    {"class_name": "Adam", "config": [1]},
    {"class_name": None, "config": {}},
    {"class_name": 3, "config": {}},
    {"class_name": "Nope", "config": {}},
    {"class_name": "ExponentialDecay", "config": {}},
    {"class_name": "RectifiedAdam"},
    {"class_name": "Addons>RectifiedAdam"},
    {"class_name": "Adam", "module": "keras.optimizers.legacy"},
    {"class_name": "Adam", "module": "keras.optimizers.legacy", "config": {"decay": 0.1}},
    {"class_name": "COCOB", "module": "tensorflow_addons.optimizers", "config": {}},
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_config_of_an_inner_optimizer_that_is_none(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Received: "):
        LOOKAHEAD(config)


SCHEDULES = [
    {"class_name": "ExponentialDecay"},
    {"class_name": "ExponentialDecay", "config": {}},
    {"class_name": "ExponentialDecay", "config": [1]},
    {"class_name": "ExponentialDecay", "config": {"initial_learning_rate": 0.1, "rate": 1}},
    {"class_name": "Nope", "config": {}},
    {"class_name": "Adam", "config": {}},
    {"class_name": 3, "config": {}},
    {"class_name": "X", "config": {}, "module": "os", "registered_name": "X"},
]


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_config_of_a_schedule_that_is_none(schedule: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=rf"`{name}`.*Received: {name}="):
        surefoot.Nadam(**{name: schedule})
