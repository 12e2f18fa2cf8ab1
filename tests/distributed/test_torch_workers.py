"""Workers of DistributedDataParallel, run as the documentation runs them."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from distributed import launching
from distributed.comparing import TOLERANCE

pytestmark = pytest.mark.backends("torch")

SCRIPTS = Path(__file__).parents[2] / "docs" / "distributed"
LAUNCH = SCRIPTS / "launch.py"
TRAIN = SCRIPTS / "train_torch.py"
LATE = launching.SECONDS - 60
"""Seconds after which the launcher shows where its workers hang, before it is killed itself."""
KILLED_RUN = 30
"""Steps of a run that is killed after its third; the kill takes a moment to arrive."""


def train(folder: Path, workers: int, *arguments: object) -> list[dict[str, np.ndarray]]:
    """Every worker's weights after each step."""
    trajectory = folder / "trajectory.npz"
    launching.succeed(
        LAUNCH,
        *("--workers", workers, "--timeout", LATE, TRAIN, folder / "checkpoint.keras"),
        *("--trajectory", trajectory, *arguments),
    )
    saved = [folder / f"trajectory.{rank}.npz" for rank in range(workers)]
    return [dict(np.load(name)) for name in saved]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "many"


@pytest.mark.parametrize(
    ("optimizer", "workers"),
    [
        pytest.param("RectifiedAdam", 2, marks=pytest.mark.extended),
        pytest.param("Nadam", 2, marks=pytest.mark.extended),
        ("Ranger", 3),
    ],
)
def test_workers_follow_one(folders: tuple[Path, Path], optimizer: str, workers: int) -> None:
    """Also past a NaN that the last of them sees, and that all of them skip."""
    arguments = ("--optimizer", optimizer, "--nonfinite", "skip", "--nan-at", 3)
    (one,) = train(folders[0], 1, *arguments)
    many = train(folders[1], workers, *arguments)
    assert np.abs(np.diff(one["trajectory"], axis=0)).max() > 1e-3
    for worker in many:
        np.testing.assert_allclose(worker["trajectory"], one["trajectory"], **TOLERANCE)
        assert np.array_equal(worker["trajectory"], many[0]["trajectory"])
        assert worker["skipped"] == one["skipped"] == 1
        assert np.isfinite(worker["trajectory"]).all()
        assert np.array_equal(worker["trajectory"][3], worker["trajectory"][2])
        assert not np.array_equal(worker["trajectory"][4], worker["trajectory"][3])


@pytest.mark.parametrize("workers_afterwards", [1, pytest.param(3, marks=pytest.mark.extended)])
def test_killed_and_resumed(folders: tuple[Path, Path], workers_afterwards: int) -> None:
    """The launcher and the workers are killed with SIGKILL at a step; others go on."""
    (whole,) = train(folders[0], 1, "--steps", KILLED_RUN)
    checkpoint = folders[1] / "checkpoint.keras"
    launching.kill_after(2, LAUNCH, "--workers", 2, TRAIN, checkpoint, "--steps", KILLED_RUN)
    resumed = train(folders[1], workers_afterwards, "--steps", KILLED_RUN)[0]["trajectory"]
    assert len(resumed) <= KILLED_RUN - 3  # it did not begin anew
    np.testing.assert_allclose(resumed[-1], whole["trajectory"][-1], **TOLERANCE)


def failing(*arguments: object, **options: float) -> str:
    done = launching.run(LAUNCH, *arguments, timeout=options.get("timeout", launching.SECONDS))
    assert done.returncode != 0
    return done.stderr


def test_a_worker_that_dies_ends_all(tmp_path: Path) -> None:
    script = tmp_path / "dies.py"
    script.write_text(
        "import os, signal, time\n"
        f"open(os.path.join({str(tmp_path)!r}, os.environ['RANK']), 'w').write(str(os.getpid()))\n"
        f"while len(os.listdir({str(tmp_path)!r})) < 4: time.sleep(0.01)\n"
        "if os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGKILL)\n"
        "time.sleep(3600)\n"
    )
    error = failing("--workers", 3, script)
    assert "worker 1 of 3 was killed by SIGKILL" in error
    assert "start again" in error
    for rank in range(3):
        assert not exists(int((tmp_path / str(rank)).read_text()))


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_worker_outlives_its_launcher(tmp_path: Path) -> None:
    script = tmp_path / "waits.py"
    script.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(3600)\n")
    running = launching.start(LAUNCH, "--workers", 1, script)
    assert running.stdout is not None
    worker = int(running.stdout.readline())
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    deadline = time.monotonic() + 30
    while exists(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not exists(worker)


def test_workers_that_take_too_long_are_named(tmp_path: Path) -> None:
    script = tmp_path / "waits.py"
    script.write_text("import os, time\nif os.environ['RANK'] == '1': time.sleep(3600)\n")
    error = failing("--workers", 2, "--timeout", 3, script, timeout=60)
    assert "worker(s) 1 did not end in time" in error
    assert f'File "{script}", line 2' in error


def test_a_taken_port_is_an_error_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = failing("--port", port, TRAIN, "never.keras", timeout=60)
    assert f"port {port} of 127.0.0.1 is taken" in error
    assert "leave out --port" in error


def test_workers_that_disagree_are_named(tmp_path: Path) -> None:
    script = tmp_path / "disagree.py"
    script.write_text(
        "import os, runpy, sys\n"
        f"sys.argv = ['train', {str(tmp_path / 'c.keras')!r}]\n"
        "sys.argv += ['--learning-rate', '0.1'] if os.environ['RANK'] == '1' else []\n"
        f"runpy.run_path({str(TRAIN)!r}, run_name='__main__')\n"
    )
    error = failing("--workers", 2, script)
    assert "Workers 0 and 1 differ in optimizer." in error
    assert "learning_rate: 0.02 and 0.1" in error
    assert "Restart all workers with the same arguments" in error
