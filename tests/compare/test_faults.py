"""What is said of errors in a task: it names the user's file, not a module of the command."""

import pytest

from surefoot.compare.trials.engine import Request
from surefoot.compare.trials.store import Trial
from surefoot.compare.trials.worker import Worker

pytestmark = pytest.mark.once

FILE = """\
import keras
import numpy as np

from surefoot.compare import Task

x, y = np.zeros((64, 3), "float32"), np.zeros((64, 1), "float32")


def model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def off(targets, outputs):
    raise ValueError("there is no such loss")  # off


def task(**change):
    given = {"model": model, "train": (x, y), "validation": (x, y), "loss": "mse"}
    return Task(**{**given, **change})


def length():
    return task(train=(x, y[:3]))


def broken_model():
    return task(model=lambda: keras.layers.Dense(-1))  # broken_model


def nan():
    return task(train=(x, y * np.nan))


def shape():
    return task(train=(x, np.zeros((64, 2, 7), "float32")))


def loss():
    return task(loss=off)


class Wrong(keras.layers.Layer):
    def call(self, inputs):
        return inputs + None  # Wrong


def broken_layer():
    return task(model=lambda: keras.Sequential([keras.Input((3,)), Wrong()]))


class Careless(keras.layers.Layer):
    def call(self, inputs, training=False):
        return inputs + None if training else inputs  # Careless


def careless():
    return task(model=lambda: keras.Sequential([keras.Input((3,)), Careless()]))


def misspelled():
    return task(loss="msee")


def missing():
    import no_such_module  # missing
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "mistakes.py"
    path.write_text(FILE)
    return path


def line(text: str) -> int:
    return next(i for i, each in enumerate(FILE.splitlines(), 1) if text in each)


@pytest.mark.parametrize(
    ("name", "starts", "ends"),
    [
        ("length", "Task.train must hold", "lengths: 64, 3 (mistakes.py, line {return Task})"),
        ("broken_model", "ValueError: ", "(mistakes.py, line {# broken_model})"),
        ("broken_layer", "TypeError: Exception", "(mistakes.py, line {# Wrong})"),
        ("loss", "ValueError: there is no such loss", "(mistakes.py, line {# off})"),
        ("misspelled", "ValueError: Could not interpret loss", "({file}:misspelled)"),
        ("nan", "Task.train has NaN", "({file}:nan)"),
        ("missing", "ModuleNotFoundError: No module named", "(mistakes.py, line {# missing})"),
        ("absent", "{file} has no 'absent'", "{file}:absent' is not a task"),
    ],
)
def test_a_task_that_cannot_be_used_is_named(file, name, starts, ends):
    kind, text = Worker(None).prepare(Request(f"{file}:{name}", None, ("adam",)))
    assert kind == "refused"
    # Keras writes in bold and on several lines.
    assert text.isprintable()
    assert text.startswith(starts.replace("{file}", str(file)))
    for each in ("return Task", "# broken_model", "# Wrong", "# missing", "# off"):
        ends = ends.replace(f"{{{each}}}", str(line(each)))
    assert text.endswith(ends.replace("{file}", str(file)))


@pytest.mark.parametrize(
    ("name", "place", "first"),
    [
        ("careless", "(mistakes.py, line {})", "mistakes.py"),
        ("shape", "mistakes.py:shape)", "site-packages"),
    ],
)
def test_a_trial_that_fails_tells_where(file, name, place, first):
    worker = Worker(None)
    kind, *_ = worker.prepare(Request(f"{file}:{name}", 10, ("adam",)))
    assert kind == "ready"
    kind, reason, traceback = list(worker.train(0, Trial("Adam", 0.1, 0)))[-1]
    assert kind == "failed"
    assert reason.endswith(place.format(line("# Careless")))
    # It begins where the command has left its own code.
    head, start, *_ = traceback.splitlines()
    assert head == "Traceback (most recent call last):"
    assert first in start
    assert "surefoot/compare" not in traceback
