"""The documented script of TensorFlow, on devices of one process and in several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distributed import launching
from distributed.comparing import TOLERANCE

pytestmark = pytest.mark.backends("tensorflow")

SCRIPTS = Path(__file__).parents[2] / "docs" / "distributed"
TRAIN = SCRIPTS / "train_tensorflow.py"
POISONED = 4


def train(folder: Path, command: list[Any], steps: int = 8) -> list[dict[str, np.ndarray]]:
    """Every process's weights after each step, from where the folder's checkpoint ends."""
    launching.succeed(
        *command,
        *(folder / "checkpoint.keras", "--trajectory", folder / "trajectory.npz"),
        *("--steps", steps, "--nan-at", POISONED),
    )
    found = [dict(np.load(name)) for name in sorted(folder.glob("trajectory.*.npz"))]
    for name in folder.glob("trajectory.*.npz"):
        name.unlink()
    return found


def processes(count: int) -> list[Any]:
    return [SCRIPTS / "launch.py", "--workers", count, TRAIN]


def test_processes_follow_one_and_hand_over_to_devices(tmp_path: Path) -> None:
    """Also past a NaN that one of them sees, and with three replicas after two workers."""
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    (one,) = train(tmp_path / "one", [TRAIN])
    first, second = train(tmp_path / "many", processes(2), steps=6)
    assert np.array_equal(first["trajectory"], second["trajectory"])
    assert first["skipped"] == second["skipped"] == one["skipped"] == 1
    assert np.array_equal(first["trajectory"][POISONED], first["trajectory"][POISONED - 1])
    np.testing.assert_allclose(first["trajectory"], one["trajectory"][:6], **TOLERANCE)
    (resumed,) = train(tmp_path / "many", [TRAIN, "--replicas", 3])
    np.testing.assert_allclose(resumed["trajectory"], one["trajectory"][6:], **TOLERANCE)


@pytest.mark.extended
@pytest.mark.xfail(reason="Keras 3.15.1's fit; see docs/distributed/tensorflow.md", strict=True)
def test_fit_in_several_processes(tmp_path: Path) -> None:
    """With Keras's own optimizer. Once this passes, the page can say that `fit` works."""
    script = tmp_path / "fit.py"
    script.write_text(
        "import os\nos.environ['KERAS_BACKEND'] = 'tensorflow'\n"
        "import keras, numpy as np, tensorflow as tf\n"
        "with tf.distribute.MultiWorkerMirroredStrategy().scope():\n"
        "    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])\n"
        "    model.compile(optimizer='adam', loss='mse')\n"
        "model.fit(np.ones((24, 6)), np.ones((24, 3)), batch_size=12, verbose=0)\n"
    )
    launching.succeed(SCRIPTS / "launch.py", "--workers", 2, "--timeout", 100, script)
