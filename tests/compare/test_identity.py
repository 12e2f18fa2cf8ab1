"""What is recorded of a task: the same whenever it is made, and other if anything has changed."""

import dataclasses

import keras
import numpy as np
import pytest
import torch

from compare.runs import HEADER
from surefoot.compare import Task, UsageError
from surefoot.compare.trials.checks import check_task
from surefoot.compare.trials.identity import identity
from surefoot.compare.trials.store import Store, difference

X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
Y = (X[:, :1] > 0).astype("float32")


@keras.saving.register_keras_serializable("identity")
class Twice(keras.layers.Layer):
    factor = 2.0

    def call(self, inputs):
        return self.factor * inputs


class Thrice(Twice):
    """What the class is after its code has changed."""

    factor = 3.0


Thrice.__name__ = "Twice"


def layers(change: str = "") -> list[keras.Layer]:
    last = keras.layers.Dense(1, "sigmoid", trainable=change != "frozen")
    return [
        keras.layers.Dense(4, "relu" if change == "activation" else "gelu"),
        keras.layers.Dropout(0.3 if change == "rate" else 0.2),
        keras.layers.BatchNormalization(momentum=0.9 if change == "momentum" else 0.8),
        Thrice() if change == "code" else Twice(),
        keras.layers.Lambda(lambda x: 2 * x),
        last,
    ]


def of(change: str = "", **options: object) -> dict[str, object]:
    def model() -> keras.Model:
        made = keras.Sequential([keras.Input((3,)), *layers(change)])
        if change == "weights":
            made.set_weights([1.01 * each for each in made.get_weights()])
        return made

    given = {"model": model, "loss": keras.losses.BinaryCrossentropy(), **options}
    task = Task(train=(X, Y), validation=(X, Y), **given)
    return identity(task, check_task(task))


@pytest.fixture(scope="module")
def first() -> dict[str, object]:
    return of()


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        ("activation", "model"),
        ("rate", "model"),
        ("momentum", "model"),
        ("frozen", "model"),
        ("code", "before_training"),
        ("weights", "before_training"),
    ],
)
def test_a_changed_model_is_another(first, change, entry):
    assert difference(first, of(change)) == entry


def test_the_same_task_is_the_same_however_often_it_is_made(first):
    assert difference(first, of()) is None
    assert of() == first


def test_a_changed_loss_or_weight_is_another(first):
    smooth = keras.losses.BinaryCrossentropy(label_smoothing=0.1)
    assert difference(first, of(loss=smooth)) == "loss"
    assert "label_smoothing=0.1" in of(loss=smooth)["loss"]
    losses = [lambda y, p: (y - p) ** 2, lambda y, p: 3 * (y - p) ** 2]
    assert difference(*(of(loss=each) for each in losses)) == "before_training"
    weighted = [of(class_weight={0: 1.0, 1: each}) for each in (2.0, 3.0)]
    assert difference(*weighted) == "class_weight"
    assert weighted[0]["class_weight"] == "0: 1, 1: 2"


@pytest.mark.backends("torch")
def test_a_module_of_torch_is_known_by_its_layers():
    def made(rate: float) -> dict[str, object]:
        def build() -> torch.nn.Module:
            return torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Dropout(rate))

        task = Task(model=build, train=(X, Y), validation=(X, Y), loss="mse")
        return identity(task, check_task(task))

    assert made(0.2) == made(0.2)
    assert difference(made(0.2), made(0.3)) == "model"


@pytest.mark.once
def test_what_has_changed_is_named(tmp_path):
    header = {**HEADER, "loss": "mse", "before_training": [0.5, None]}
    Store(tmp_path).start(header)
    Store(tmp_path).resume({**header, "before_training": [0.5000001, None]})
    with pytest.raises(UsageError, match="its loss is 'mse', and this run's is 'mae'"):
        Store(tmp_path).resume({**header, "loss": "mae"})
    with pytest.raises(UsageError, match=r"its loss \(and metric\) of untrained models is \[0.5,"):
        Store(tmp_path).resume({**header, "before_training": [0.51, None]})


@pytest.mark.once
def test_objects_of_keras_are_not_numbered():
    """A notebook makes them anew each time a cell is run."""
    given = {"model": keras.Model, "train": (X, Y), "validation": (X, Y), "loss": "mse"}
    task = Task(**given, metric=keras.metrics.AUC(), higher_is_better=True)
    again = dataclasses.replace(task, metric=keras.metrics.AUC())
    assert task.metric_name == again.metric_name == "validation auc"
    top = keras.metrics.SparseTopKCategoricalAccuracy(name="top_5")
    assert dataclasses.replace(task, metric=top).metric_name == "validation top_5"
