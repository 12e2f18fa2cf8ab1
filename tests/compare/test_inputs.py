"""What a task may be made of: frames, datasets, loaders, several inputs, weights, callbacks."""

import dataclasses

import keras
import numpy as np
import pandas as pd
import polars as pl
import pytest
import tensorflow as tf
import torch

from compare.training import run
from surefoot.compare import Task, UsageError
from surefoot.compare.trials.checks import check_task
from surefoot.compare.trials.models import numbers
from surefoot.compare.trials.task import load_task
from surefoot.compare.trials.trial import Trainer

STEPS = 20
# The same sums in float32, in another order.
SAME_SUM = 1e-5


@pytest.fixture(scope="module")
def task(task_file) -> Task:
    return load_task(f"{task_file}:line")


def frames():
    """One table with missing values, of each library, and as an array."""
    ages, heights, smokes = [41, None, 27], [1.5, 1.75, None], [True, None, False]
    pandas = pd.DataFrame(
        {
            "age": pd.array(ages, dtype="Int64"),
            "height": heights,
            "smokes": pd.array(smokes, dtype="boolean"),
        }
    )
    polars = pl.DataFrame({"age": ages, "height": heights, "smokes": smokes})
    return pandas, polars, np.array([[41, 1.5, 1], [np.nan, 1.75, np.nan], [27, np.nan, 0]])


def of(train, **more) -> Task:
    given = {"model": keras.Model, "loss": "mse", "batch_size": 1, **more}
    return Task(train=train, validation=train, **given)


@pytest.mark.once
@pytest.mark.parametrize("which", [0, 1])
def test_a_frame_is_an_array_in_which_missing_values_are_nan(which):
    frame, expected = frames()[which], frames()[2]
    target = frame["height"].fill_null(0) if which else frame["height"].fillna(0)
    inputs, targets = of((frame, target)).train
    np.testing.assert_array_equal(inputs, expected)
    np.testing.assert_array_equal(targets, [1.5, 1.75, 0])
    # Whole numbers remain whole: they may be classes.
    assert of((frame, pd.Series([2, 0, 1]))).train[1].dtype == np.int64
    columns = of(({name: frame[name] for name in frame.columns}, target)).train[0]
    np.testing.assert_array_equal(np.stack(list(columns.values()), -1), expected)
    texts = ["Rome", "Oslo", "Rome"]
    with_text = frame.with_columns(city=pl.Series(texts)) if which else frame.assign(city=texts)
    with pytest.raises(UsageError, match=r"Task.train has columns that are not numbers: 'city' \("):
        of((with_text, target))
    # A column of texts alone is the input of a model that takes texts.
    assert of((with_text["city"], target)).train[0].tolist() == texts


X = np.arange(30.0, dtype="float32").reshape(10, 3)
Y = np.arange(10)


class Numbered(keras.utils.PyDataset):
    num_batches = 3

    def __getitem__(self, index):
        return X[4 * index :][:4], Y[4 * index :][:4]


class Endless(Numbered):
    num_batches = None


TENSORS = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
DATASET = tf.data.Dataset.from_tensor_slices((X, Y))


@pytest.mark.once
@pytest.mark.parametrize(
    "data",
    [
        DATASET.shuffle(10).batch(4),
        torch.utils.data.DataLoader(TENSORS, batch_size=4, shuffle=True),
        Numbered(),
        [(X[:4], Y[:4]), (X[4:], Y[4:])],
    ],
    ids=lambda data: type(data).__name__,
)
def test_batches_are_read_whatever_their_order(data):
    first, second = of(data, batch_size=None), of(data, batch_size=None)
    inputs, targets = first.train
    np.testing.assert_array_equal(inputs, X[targets])
    assert sorted(targets) == list(Y)
    assert first.batch_size == 4
    # As two workers would make it, of which each shuffles in its own way.
    assert first.data_hash() == second.data_hash()


@pytest.mark.once
@pytest.mark.parametrize(
    ("data", "match"),
    [
        ((batch for batch in [(X, Y)]), "can be read only once"),
        (DATASET.batch(4).repeat(), "must end.*leave out `repeat`"),
        (Endless(), "must end"),
        (DATASET, "must give batches, not single examples. Received lengths: 3, 0"),
        (TENSORS, "a dataset, loader or list of batches.*Received: TensorDataset"),
        ([(X, Y), (X[:, :2], Y)], "pad the examples to one shape"),
        ([], "has no batches"),
        ({"x": X, "y": Y}, r"Received: dict\['x', 'y'\]"),
        (([0, 1, 2], [0, 1, 2]), "a list is taken for several inputs.*Received lengths: 0, 0, 0"),
        ((np.array([{}, {}]), Y[:2]), "must hold numbers or texts"),
    ],
)
def test_what_cannot_be_data_is_refused(data, match):
    with pytest.raises(UsageError, match=f"Task.train .*{match}"):
        of(data)


def two_by_two() -> keras.Model:
    inputs = {name: keras.Input((3,), name=name) for name in ("left", "right")}
    both = keras.layers.Concatenate()(list(inputs.values()))
    outputs = {name: keras.layers.Dense(1, name=name)(both) for name in ("sum", "sign")}
    return keras.Model(inputs, outputs)


def two_by_two_task(task) -> Task:
    (x, y), (held_x, held_y) = task.train, task.validation
    return dataclasses.replace(
        task,
        model=two_by_two,
        train=({"left": x, "right": x}, {"sum": y, "sign": y > 0}),
        validation=({"left": held_x, "right": held_x}, {"sum": held_y, "sign": held_y > 0}),
        loss={"sum": "mse", "sign": keras.losses.BinaryCrossentropy(from_logits=True)},
    )


def test_several_inputs_and_outputs(task):
    several = two_by_two_task(task)
    check_task(several)
    outcome = run(Trainer(several, STEPS), "adam", 0.1, 0)
    # Without a metric all losses count, not the first of them.
    assert outcome.result == outcome.curve.validation_loss[-1]
    one = dataclasses.replace(several, metric={"sum": "mse"}, higher_is_better=False)
    assert one.metric_name == "validation mse of sum"
    result = run(Trainer(one, STEPS), "adam", 0.1, 0).result
    assert 0 < result < outcome.result
    with pytest.raises(UsageError, match=r"Task.metric must be one metric.*Received: \['mse'\]"):
        dataclasses.replace(one, metric=["mse"])


def test_weights_count_in_training_and_in_the_result(task):
    """A weight of 0 is as good as no example; weights of classes are weights of their examples."""
    x, y = task.validation
    some = np.arange(len(x)) < 20
    weighted = dataclasses.replace(
        *(task,), validation=(x, y, some.astype("float32")), metric="mae", higher_is_better=False
    )
    part = dataclasses.replace(weighted, validation=(x[some], y[some]))
    results = [run(Trainer(each, STEPS), "adam", 0.1, 0).result for each in (weighted, part)]
    assert results[0] == pytest.approx(results[1], rel=SAME_SUM)

    x, y = task.train
    labels = (y[:, 0] > 0).astype("int32")
    by_class = dataclasses.replace(task, train=(x, labels), class_weight={0: 1.0, 1: 3.0})
    weights = np.where(labels, 3.0, 1.0).astype("float32")
    by_example = dataclasses.replace(task, train=(x, labels, weights))
    curves = [run(Trainer(each, STEPS), "adam", 0.1, 0).curve for each in (by_class, by_example)]
    assert curves[0].validation_loss == pytest.approx(curves[1].validation_loss, rel=SAME_SUM)
    plain = dataclasses.replace(by_class, class_weight=None)
    assert curves[0] != run(Trainer(plain, STEPS), "adam", 0.1, 0).curve
    with pytest.raises(UsageError, match="class_weight is for one output without sample weights"):
        dataclasses.replace(by_example, class_weight={0: 2.0})
    with pytest.raises(UsageError, match="classes that no target has: 'yes', 2; there are 0, 1"):
        dataclasses.replace(by_class, class_weight={0: 1.0, 2: 2.0, "yes": 2.0})
    one_hot = keras.utils.to_categorical(labels, 3)
    assert dataclasses.replace(by_class, train=(x, one_hot), class_weight={1: 2.0})
    weights[3] = np.nan
    with pytest.raises(UsageError, match=r"NaN or infinity in the weights of 1 .*example 3"):
        check_task(dataclasses.replace(task, train=(x, labels, weights)))


class Watching(keras.callbacks.Callback):
    """Counts the epochs of its run, stops it, and sets all weights to 0 at the end."""

    def __init__(self):
        super().__init__()
        self.epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        assert {"loss", "val_loss"} <= set(logs)
        assert epoch == self.epochs
        self.epochs += 1
        self.model.stop_training = self.epochs == 5

    def on_train_end(self, logs=None):
        for variable in self.model.trainable_variables:
            variable.assign(numbers(variable) * 0)


class Slowing(keras.callbacks.Callback):
    """Changes the learning rate in one of the methods that Keras calls."""

    def __init__(self, method):
        super().__init__()
        setattr(self, method, self.slow)

    def slow(self, *_, **__):
        self.model.optimizer.learning_rate = 0.01


def test_callbacks_are_new_in_each_run_and_have_the_last_word(task):
    trainer = Trainer(dataclasses.replace(task, callbacks=lambda: [Watching()]), STEPS)
    first, second = (run(trainer, "adam", 0.1, seed) for seed in (0, 1))
    assert first.steps == second.steps == 5
    # A model of zeros is off by the targets themselves.
    assert first.result == pytest.approx(np.mean(task.validation[1] ** 2), rel=SAME_SUM)
    assert first.curve.step == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("optimizer", ["sgd", "sgd+cosine"])
@pytest.mark.parametrize("method", ["on_epoch_begin", "on_epoch_end", "on_train_batch_begin"])
def test_callbacks_leave_the_learning_rate_alone(task, optimizer, method):
    slowing = dataclasses.replace(task, callbacks=lambda: [Slowing(method)])
    with pytest.raises(UsageError, match=r"changed the learning rate.*Received: 0.01 in place of"):
        run(Trainer(slowing, STEPS), optimizer, 0.1, 0)


class Net(torch.nn.Module):
    """With averages that Keras does not count as variables, and two inputs."""

    def __init__(self):
        super().__init__()
        self.first, self.average = torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)
        self.last = torch.nn.Linear(4, 1)

    def forward(self, left, right):
        return self.last(self.average(self.first(left) + self.first(right)))


@pytest.mark.backends("torch")
@pytest.mark.parametrize("names", [("left", "right"), None], ids=["dict", "tuple"])
def test_a_module_of_torch(task, names):
    def twice(x):
        return dict.fromkeys(names, x) if names else (x, x)

    own = dataclasses.replace(
        task,
        model=Net,
        train=(twice(task.train[0]), task.train[1]),
        validation=(twice(task.validation[0]), task.validation[1]),
    )
    check_task(own)
    trainer = Trainer(own, STEPS)
    run(trainer, "sgd", 0.3, 5)
    after_another, fresh = (
        run(each, "sgd", 0.03, 1).curve for each in (trainer, Trainer(own, STEPS))
    )
    assert after_another == fresh
    assert fresh.result[-1] < 0.5 * fresh.result[0]
    net = Net()
    with pytest.raises(UsageError, match="two calls shared 9 of 9"):
        check_task(dataclasses.replace(own, model=lambda: net))
    with pytest.raises(UsageError, match=r"take the outputs first.*Received: MSELoss"):
        check_task(dataclasses.replace(own, loss=torch.nn.MSELoss()))


@pytest.mark.backends("jax")
def test_a_module_of_torch_needs_its_backend(task):
    with pytest.raises(UsageError, match=r"needs --backend torch. Received: --backend jax"):
        check_task(dataclasses.replace(task, model=Net))
