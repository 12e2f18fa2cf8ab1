"""Keras's optimizers with TensorFlow Addons' weight decay."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import EAGER_AND_COMPILED, Loop, to_numpy
from scenarios import SCHEDULE, scenario

extended = surefoot.optimizers.extend_with_decoupled_weight_decay
PAIRS: dict[str, tuple[Any, Any]] = {
    "adam": (extended(keras.optimizers.Adam), surefoot.AdamW),
    "sgd": (extended(keras.optimizers.SGD), surefoot.SGDW),
}


@pytest.mark.parametrize("mode", EAGER_AND_COMPILED)
@pytest.mark.parametrize("name", PAIRS)
def test_it_computes_what_ours_does(name: str, mode: str) -> None:
    run = scenario("SGDW-plain")
    options = {"learning_rate": 0.03, "exclude_from_weight_decay": ["variable_1"]}
    theirs, ours = (
        Loop(make(weight_decay=0.125, **options), run.start(), mode=mode) for make in PAIRS[name]
    )
    for step in range(1, 9):
        if step == 5:
            theirs.optimizer.weight_decay = ours.optimizer.weight_decay = 0.25
        for loop in (theirs, ours):
            loop.step(run.gradients(step))
    for one, other in zip(theirs.parameters, ours.parameters, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


@pytest.mark.once
def test_schedules_and_configs() -> None:
    make = PAIRS["sgd"][0]
    one = make(weight_decay=SCHEDULE.given(), learning_rate=0.0, exclude_from_weight_decay=["b"])
    again = make.from_config(one.get_config())
    assert again.get_config() == one.get_config()
    weight = keras.Variable(1.0, name="a")
    for _ in range(5):
        again.apply([keras.ops.array(1.0)], [weight])
    assert float(to_numpy(weight)) == 0.75**4 * 0.875  # the schedule changes after step 3
    with pytest.raises(ValueError, match="schedule"):
        again.weight_decay = 0.5


def test_decay_var_list_and_minimize() -> None:
    first, second = keras.Variable(1.0), keras.Variable(1.0)
    one = PAIRS["sgd"][0](weight_decay=0.5, learning_rate=0.0)
    one.minimize(lambda: first * second, [first, second], decay_var_list=[first])
    assert [float(to_numpy(v)) for v in (first, second)] == [0.5, 1.0]


@pytest.mark.once
def test_what_it_does_not_extend() -> None:
    with pytest.raises(TypeError, match="weight_decay"):
        extended(surefoot.RectifiedAdam)(weight_decay=0.1)
    with pytest.raises(TypeError, match="'adam'"):
        extended("adam")
    with pytest.raises(ValueError, match="-1"):
        PAIRS["sgd"][0](weight_decay=-1)
