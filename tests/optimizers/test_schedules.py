"""The schedules of TensorFlow Addons give what was recorded from them, in every optimizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import surefoot
from loops import to_numpy
from regression import assert_same, fit, new_model

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "schedules.json").read_text())


@keras.saving.register_keras_serializable(package="test_schedules")
def falling(x: Any) -> Any:
    return 1 / (1 + x)


def made_from(entry: dict[str, Any]) -> keras.optimizers.schedules.LearningRateSchedule:
    is_general = entry["class"] == "CyclicalLearningRate"
    config = entry["config"] | ({"scale_fn": falling} if is_general else {})
    return getattr(surefoot.optimizers, entry["class"]).from_config(config)


@pytest.mark.parametrize("entry", RECORDED["schedules"], ids=lambda entry: entry["name"])
def test_it_gives_the_recorded_rates_and_is_saved(entry: dict[str, Any]) -> None:
    schedules = keras.optimizers.schedules
    schedule = made_from(entry)
    copy = schedules.deserialize(json.loads(json.dumps(schedules.serialize(schedule))))
    assert type(copy) is type(schedule)
    assert copy.get_config() == schedule.get_config()
    counter = keras.Variable(0, dtype="int32", trainable=False)
    for step, rate in zip(RECORDED["steps"], entry["values"], strict=True):
        counter.assign(step)
        for one in (schedule(step), copy(counter)):
            assert keras.backend.standardize_dtype(one.dtype) == "float32"
            np.testing.assert_allclose(to_numpy(one), rate, rtol=3e-7)


@pytest.mark.parametrize(
    "make",
    [
        surefoot.Nadam,
        keras.optimizers.Adam,
        lambda rate: surefoot.SWA(keras.optimizers.SGD(rate), average_period=2),
    ],
)
def test_it_is_a_rate_in_fit_and_in_files(make: Any, tmp_path: Path) -> None:
    schedule = surefoot.Triangular2CyclicalLearningRate(0.01, 0.1, step_size=2)
    model = new_model(make(schedule))
    fit(model)
    assert float(to_numpy(model.optimizer.learning_rate)) == pytest.approx(
        float(to_numpy(schedule(7)))
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded, model)
    fit(model)
    fit(loaded)
    assert_same(loaded, model)


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"initial_learning_rate": -1.0}, ValueError, "initial_learning_rate=-1.0"),
        ({"maximal_learning_rate": "high"}, TypeError, "maximal_learning_rate='high'"),
        ({"step_size": 0}, ValueError, "step_size=0"),
        ({"scale_mode": "epochs"}, ValueError, "scale_mode='epochs'"),
        ({"scale_fn": 2}, TypeError, "scale_fn=2"),
    ],
)
def test_a_wrong_argument_is_named(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    right = {"initial_learning_rate": 0.1, "maximal_learning_rate": 1.0, "step_size": 5}
    with pytest.raises(error, match=words):
        surefoot.CyclicalLearningRate(**{**right, "scale_fn": falling, **arguments})
    with pytest.raises(ValueError, match="gamma=-1"):
        surefoot.ExponentialCyclicalLearningRate(**right, gamma=-1)
