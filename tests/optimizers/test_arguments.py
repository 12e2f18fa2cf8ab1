"""Nothing is silently ignored: wrong arguments are named, what the originals took is taken."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import EAGER_AND_COMPILED, Loop, to_numpy

RADAM, NADAM, LOOKAHEAD, RANGER = (
    surefoot.RectifiedAdam,
    surefoot.Nadam,
    surefoot.Lookahead,
    surefoot.Ranger,
)
MOMENT = (RADAM, NADAM, RANGER)
WITH_WARMUP = (RADAM, RANGER)
WITH_PERIOD = (LOOKAHEAD, RANGER)
ALL = (RADAM, NADAM, LOOKAHEAD, RANGER)

NOT_NUMBERS = ("fast", [0.1, 0.2], object(), {"a": 1}, 1j)
OUT_OF_RANGE: dict[str, tuple[tuple[type, ...], tuple[Any, ...]]] = {
    "learning_rate": (MOMENT, (-0.1, math.nan, math.inf, -math.inf)),
    "beta_1": (MOMENT, (1.0, -0.1, 1.5, math.nan)),
    "beta_2": (MOMENT, (1.0, -0.1, 1.5, math.nan)),
    "epsilon": (MOMENT, (-1e-9, math.nan)),
    "weight_decay": (MOMENT, (-0.1, math.nan)),
    "total_steps": (WITH_WARMUP, (-1, 10.5, math.nan, math.inf)),
    "warmup_proportion": (WITH_WARMUP, (-0.1, 1.1, math.nan)),
    "min_lr": (WITH_WARMUP, (-1e-5, math.nan)),
    "sma_threshold": (WITH_WARMUP, (math.nan,)),
    "decay": (MOMENT, (-0.1, math.nan)),
    "schedule_decay": ((NADAM,), (-0.1, math.nan)),
    "sync_period": (WITH_PERIOD, (0, -1, 2.5, math.nan)),
    "slow_step_size": (WITH_PERIOD, (-0.1, 1.1, math.nan)),
    "clipnorm": (ALL, (-1.0, 0.0, math.nan)),
    "clipvalue": (ALL, (-1.0, 0.0, math.nan)),
    "global_clipnorm": (ALL, (-1.0, 0.0, math.nan)),
    "gradient_accumulation_steps": (ALL, (0, 1, -2, 2.5)),
    "ema_overwrite_frequency": (ALL, (0, -1, 2.5)),
    "ema_momentum": (ALL, (-0.1, 1.1, math.nan)),
    "loss_scale_factor": (ALL, (-1.0, 0.0, math.nan)),
    "name": (ALL, ("", "a b", "a/b", 7)),
    "unrectified_update": (WITH_WARMUP, ("sgd", 3, None)),
    "amsgrad": (WITH_WARMUP, ("yes", 2, None)),
}
WRONG = [
    pytest.param(cls, name, value, id=f"{cls.__name__}-{name}-{value}")
    for name, (classes, values) in OUT_OF_RANGE.items()
    for cls in classes
    for value in values
] + [
    pytest.param(cls, name, value, id=f"{cls.__name__}-{name}-{type(value).__name__}")
    for name in ("learning_rate", "beta_1", "weight_decay", "epsilon")
    for cls in MOMENT
    for value in NOT_NUMBERS
]


def make(cls: type, **options: Any) -> keras.optimizers.Optimizer:
    if cls is LOOKAHEAD:
        options = {"optimizer": "sgd"} | options
    return cls(**options)


@pytest.mark.once
@pytest.mark.parametrize(("cls", "name", "value"), WRONG)
def test_wrong_value_is_refused_by_name(cls: type, name: str, value: Any) -> None:
    options = {name: value} | ({"use_ema": True} if name.startswith("ema_") else {})
    with pytest.raises((ValueError, TypeError)) as caught:
        make(cls, **options)
    message = str(caught.value)
    assert name in message
    shown = value if isinstance(value, str) else repr(value)
    assert shown in message, f"{message!r} does not say what was received"


LIVE = [
    pytest.param(cls, name, value, id=f"{cls.__name__}-{name}-{value}")
    for name, (classes, values) in OUT_OF_RANGE.items()
    if name
    in (
        *("learning_rate", "beta_1", "beta_2", "epsilon", "weight_decay", "total_steps"),
        *("warmup_proportion", "min_lr", "sma_threshold", "schedule_decay", "slow_step_size"),
    )
    for cls in classes
    for value in values
]


@pytest.mark.once
@pytest.mark.parametrize(("cls", "name", "value"), LIVE)
def test_wrong_value_is_refused_when_written_later(cls: type, name: str, value: Any) -> None:
    optimizer = make(cls)
    before = optimizer.get_config()
    with pytest.raises((ValueError, TypeError), match=name):
        setattr(optimizer, name, value)
    assert optimizer.get_config() == before


@pytest.mark.once
@pytest.mark.parametrize("cls", ALL)
def test_unknown_keyword_is_refused(cls: type) -> None:
    with pytest.raises((ValueError, TypeError), match="momentun") as caught:
        make(cls, momentun=0.9)
    assert "0.9" in str(caught.value)
    assert "clipnorm" in str(caught.value), "the message says what is accepted"


@pytest.mark.once
@pytest.mark.parametrize("cls", MOMENT)
def test_lr_and_a_different_learning_rate_contradict(cls: type) -> None:
    with pytest.raises((ValueError, TypeError), match=r"lr") as caught:
        cls(learning_rate=0.1, lr=0.2)
    assert "0.1" in str(caught.value)
    assert "0.2" in str(caught.value)
    assert rate(cls(learning_rate=0.25, lr=0.25)) == 0.25


@pytest.mark.once
@pytest.mark.parametrize("cls", ALL)
def test_two_ways_of_clipping_contradict(cls: type) -> None:
    with pytest.raises(ValueError, match="clip"):
        make(cls, clipnorm=1.0, clipvalue=1.0)


@pytest.mark.once
@pytest.mark.parametrize(
    "inner", ["no such optimizer", 7, None, keras.layers.Dense(1), keras.optimizers.SGD, {}, []]
)
def test_lookahead_refuses_what_is_no_optimizer(inner: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="optimizer"):
        LOOKAHEAD(inner)


@pytest.mark.once
@pytest.mark.parametrize("cls", ALL)
def test_every_positional_argument_stands_where_it_did(cls: type) -> None:
    radam = {
        "learning_rate": 0.25,
        "beta_1": 0.5,
        "beta_2": 0.75,
        "epsilon": 0.125,
        "weight_decay": 0.0625,
        "amsgrad": True,
        "sma_threshold": 6.0,
        "total_steps": 50,
        "warmup_proportion": 0.375,
        "min_lr": 0.03125,
    }
    wanted: dict[type, dict[str, Any]] = {
        RADAM: radam | {"name": "n"},
        NADAM: {name: radam[name] for name in ("learning_rate", "beta_1", "beta_2", "epsilon")}
        | {"name": "n"},
        RANGER: radam | {"sync_period": 3, "slow_step_size": 0.25, "name": "n"},
        LOOKAHEAD: {"optimizer": "sgd", "sync_period": 3, "slow_step_size": 0.25, "name": "n"},
    }
    config = cls(*wanted[cls].values()).get_config()
    wanted[cls].pop("optimizer", None)
    assert {name: config[name] for name in wanted[cls]} == wanted[cls]


def rate(optimizer: keras.optimizers.Optimizer) -> float:
    return float(to_numpy(optimizer.learning_rate))


class Cyclical:
    """A schedule as TensorFlow Addons users wrote them: a callable of the step."""

    def __call__(self, step: Any) -> Any:
        return keras.ops.where(keras.ops.cast(step, "float32") % 2 < 1, 0.25, 0.5)


SEEN = {
    "positional": (lambda: RADAM(1e-3), {"learning_rate": 1e-3}),
    "nadam positional": (lambda: NADAM(2e-4), {"learning_rate": 2e-4}),
    "old names": (
        lambda: RADAM(lr=3e-3, warmup_proportion=0, min_lr=1e-5, weight_decay=1e-4),
        {"learning_rate": 3e-3, "warmup_proportion": 0, "min_lr": 1e-5, "weight_decay": 1e-4},
    ),
    "no warmup": (
        lambda: RADAM(total_steps=100, warmup_proportion=0),
        {"total_steps": 100, "warmup_proportion": 0},
    ),
    "only warmup": (
        lambda: RADAM(total_steps=100, warmup_proportion=1),
        {"warmup_proportion": 1},
    ),
    "steps as a float": (lambda: RADAM(total_steps=1e4), {"total_steps": 10_000}),
    "steps of numpy": (lambda: RADAM(total_steps=np.int64(10)), {"total_steps": 10}),
    "nadam of 2018": (
        lambda: NADAM(lr=2e-4, beta_1=0.9, beta_2=0.999, epsilon=None, schedule_decay=0.004),
        {"learning_rate": 2e-4, "epsilon": keras.config.epsilon(), "schedule_decay": 0.004},
    ),
    "nadam decay": (lambda: NADAM(decay=0.01), {"schedule_decay": 0.01}),
    "epsilon none": (lambda: RADAM(epsilon=None), {"epsilon": keras.config.epsilon()}),
    "tensors": (
        lambda: RADAM(beta_1=keras.ops.convert_to_tensor(0.5), weight_decay=np.float32(0.25)),
        {"beta_1": 0.5, "weight_decay": 0.25},
    ),
    "int rate": (lambda: NADAM(1), {"learning_rate": 1.0}),
    "clipnorm int": (lambda: NADAM(clipnorm=1), {"clipnorm": 1}),
    "clipnorm numpy": (lambda: NADAM(clipnorm=np.float32(0.5)), {"clipnorm": 0.5}),
    "amsgrad int": (lambda: RADAM(amsgrad=1), {"amsgrad": True}),
    "name": (lambda: RADAM(name="my.radam-1"), {"name": "my.radam-1"}),
}


@pytest.mark.parametrize("form", SEEN)
def test_what_real_code_writes_is_taken(form: str) -> None:
    build, wanted = SEEN[form]
    optimizer = build()
    config = optimizer.get_config()
    for name, value in wanted.items():
        assert config[name] == (value if isinstance(value, str) else pytest.approx(value)), name
    loop = Loop(optimizer, [np.ones(3)])
    loop.step([np.ones(3)])
    assert np.all(np.isfinite(loop.parameters[0]))


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("cls", MOMENT)
def test_schedule_that_is_any_callable_of_the_step(cls: type, mode: str) -> None:
    """The first steps of RAdam, unrectified, move by rate times the first moment: 1 and 1."""
    loop = Loop(cls(Cyclical()), [np.zeros(3)], mode=mode)
    one = Loop(cls(0.25), [np.zeros(3)], mode=mode)
    loop.step([np.ones(3)])
    one.step([np.ones(3)])
    np.testing.assert_allclose(loop.parameters[0], one.parameters[0], rtol=1e-6)
    loop.step([np.ones(3)])
    one.optimizer.learning_rate = 0.5
    one.step([np.ones(3)])
    np.testing.assert_allclose(loop.parameters[0], one.parameters[0], rtol=1e-6)


def test_schedule_with_warmup_as_in_the_wild() -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    optimizer = RADAM(schedule, total_steps=10, warmup_proportion=0.2)
    loop = Loop(optimizer, [np.zeros(3)])
    loop.step([np.ones(3)])
    # step 1 of a warmup of 2: half of the schedule's first rate, times the first moment, 1
    np.testing.assert_allclose(loop.parameters[0], -0.05, rtol=1e-6)


@pytest.mark.once
@pytest.mark.parametrize("cls", ALL)
def test_hyperparameters_read_back_as_plain_numbers(cls: type) -> None:
    optimizer = make(cls)
    for name, value in optimizer.get_config().items():
        if name in ("optimizer", "learning_rate") or not hasattr(optimizer, name):
            continue
        if callable(getattr(optimizer, name)):  # `slow_weights`, the method
            continue
        assert getattr(optimizer, name) == value
        assert isinstance(value, int | float | str | bool | None)


@pytest.mark.parametrize("cls", MOMENT)
def test_gradients_that_are_malformed(cls: type) -> None:
    optimizer = cls()
    variable = keras.Variable(np.ones(3, "float32"))
    for wrong in (7, [variable], [(variable,)], [(1, 2, 3)]):
        with pytest.raises(TypeError):
            optimizer.apply_gradients(wrong)
    with pytest.raises(ValueError, match=r"[Nn]o gradients"):
        optimizer.apply_gradients([(None, variable)])
    assert int(to_numpy(optimizer.iterations)) == 0
    np.testing.assert_array_equal(to_numpy(variable), 1)


@pytest.mark.parametrize("cls", MOMENT)
def test_gradient_of_another_shape_is_refused_and_nothing_moves(cls: type) -> None:
    loop = Loop(cls(), [np.ones(3), np.ones(2)])
    loop.step([np.ones(3), np.ones(2)])
    before = [w.copy() for w in loop.optimizer.get_weights()]
    parameters = loop.parameters
    for wrong in (np.ones(5), np.ones(1), np.ones(()), np.ones((2, 2))):
        with pytest.raises(ValueError, match="shape") as caught:
            loop.step([np.ones(3), wrong])
        assert str(wrong.shape) in str(caught.value)
    for ours, theirs in zip(loop.optimizer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(loop.parameters, parameters, strict=True):
        np.testing.assert_array_equal(ours, theirs)
