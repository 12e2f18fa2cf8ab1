"""A small task of one's own, and the command as a user runs it."""

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

# Debian's names for the browser, and others'.
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs Chromium; deselected where there is none")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unwanted = [i for i in items if CHROMIUM is None and i.get_closest_marker("browser")]
    if unwanted:
        items[:] = [item for item in items if item not in unwanted]
        config.hook.pytest_deselected(items=unwanted)


TASK = '''
import keras
import numpy as np

from surefoot.compare import Task


def model():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def line():
    x = np.random.default_rng(0).normal(size=(96, 3)).astype("float32")
    y = x @ np.array([[1.0], [-2.0], [0.5]], "float32")
    return Task(
        model=model, train=(x[:64], y[:64]), validation=(x[64:], y[64:]), loss="mse",
        batch_size=16, steps=20,
    )


class Mine(keras.optimizers.SGD):
    """An optimizer that surefoot knows nothing about."""


def slow():
    task = line()
    return Task(
        model=model, train=task.train, validation=task.validation, loss="mse", batch_size=16,
        steps=250, optimizers=("adam",), learning_rates="1e-3,1e-2,1e-1",
    )


def broken():
    raise RuntimeError("the data are\\nnot there")
'''


@pytest.fixture(scope="session")
def task_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(TASK)
    return path


@pytest.fixture(scope="session")
def surefoot() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=300, check=False
        )

    return run


def command(*arguments: object) -> list[str]:
    # The width keeps the table of the terminal in one piece.
    os.environ["COLUMNS"] = "120"
    return [sys.executable, "-m", "surefoot", *map(str, arguments)]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def without_times(folder: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if "seconds" not in k} for row in rows(folder)]


def wait_for_trials(running: subprocess.Popen[bytes], folder: Path, count: int) -> Path:
    """Wait until a running command has written so many trials; the file it writes them to."""
    trials = folder / "trials.jsonl"
    deadline = time.monotonic() + 120
    while not (trials.exists() and trials.read_text().count('"kind": "trial"') >= count):
        assert running.poll() is None, "it ended before its trials were done"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return trials
