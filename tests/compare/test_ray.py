"""`surefoot compare --engine ray`, on clusters that are started here, on this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compare.conftest import command, wait_for_trials, without_times
from surefoot.cli import main
from surefoot.compare.trials import ray_engine

pytestmark = pytest.mark.once

ALONE = ("--jobs", 1, "--threads", 1)
SECONDS_TO_END = 20


class Mark:
    """A variable that the processes started with it hand on to those that they start."""

    def __init__(self) -> None:
        self.variables = {"SUREFOOT_TEST": secrets.token_hex(8)}
        (self._entry,) = (f"{name}={value}".encode() for name, value in self.variables.items())

    def processes(self) -> list[int]:
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            try:
                entries = environment.read_bytes().split(b"\0")
            except OSError:  # ended meanwhile
                continue
            if self._entry in entries:
                found.append(int(environment.parent.name))
        return found

    def kill(self) -> None:
        for process in self.processes():
            os.kill(process, signal.SIGKILL)
        self.wait_until_gone()

    def wait_until_gone(self, seconds: int = SECONDS_TO_END) -> None:
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left, [Path(f"/proc/{each}/cmdline").read_bytes() for each in left]


@pytest.fixture
def mark() -> Iterator[Mark]:
    made = Mark()
    yield made
    made.kill()


def run(*arguments: object, mark: Mark, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("compare", *arguments),
        env=os.environ | mark.variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def verdict_in(printed: str) -> list[str]:
    """Its sentences; the table before them holds times, which also decide on its width."""
    sentences = [line for line in printed.splitlines() if line.startswith("- ")]
    assert sentences
    return sentences


@pytest.mark.extended
def test_killed_and_resumed_it_gives_the_numbers_of_processes(
    task_file: Path, tmp_path: Path, mark: Mark
) -> None:
    through, killed = tmp_path / "through", tmp_path / "killed"
    task = (f"{task_file}:slow", *ALONE, "--fresh-seeds", 3)
    done = run(*task, "--out", through, mark=mark)
    assert done.returncode == 0, done.stderr

    arguments = (*task, "--engine", "ray", "--out", killed)
    running = subprocess.Popen(
        command("compare", *arguments),
        env=os.environ | mark.variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    trials = wait_for_trials(running, killed, 2)
    assert len(mark.processes()) > 2  # a cluster's
    running.send_signal(signal.SIGKILL)
    running.wait()
    mark.wait_until_gone()
    before = trials.read_text()

    resumed = run(*arguments, "--resume", mark=mark)
    assert resumed.returncode == 0, resumed.stderr
    assert not mark.processes()
    assert "are already done" in resumed.stdout
    after = trials.read_text()
    assert after.startswith(before[: before.rfind("\n") + 1])
    assert after.count('"kind": "trial"') == 9 + 3  # and the fresh ones
    assert without_times(killed) == without_times(through)
    assert verdict_in(done.stdout) == verdict_in(resumed.stdout)


@pytest.mark.extended
@pytest.mark.parametrize(
    ("sent", "status"),
    [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)],
    ids=lambda each: getattr(each, "name", None),
)
@pytest.mark.parametrize("seconds", [1, 4, 7, 10])
def test_no_process_is_left_whenever_it_is_ended(
    task_file: Path, tmp_path: Path, mark: Mark, sent: signal.Signals, status: int, seconds: int
) -> None:
    running = subprocess.Popen(
        command(
            "compare", f"{task_file}:slow", "--seeds", 99, "--engine", "ray", "--out", tmp_path
        ),
        env=os.environ | mark.variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    running.send_signal(sent)
    ended = running.wait(SECONDS_TO_END)
    # Killed while the cluster is starting, its agents take the minute that Ray gives them.
    mark.wait_until_gone(90)
    # Within the first seconds the command is still importing and has no handlers.
    assert ended in (status, -sent, 1)


@pytest.mark.extended
def test_a_worker_that_dies_is_reported_as_with_processes(
    task_file: Path, tmp_path: Path, mark: Mark
) -> None:
    arguments = own_files(task_file, tmp_path)
    done = run(*arguments, "--engine", "ray", "--out", tmp_path / "out", cwd=tmp_path, mark=mark)
    assert done.returncode == 1, done.stderr
    assert f"its process ended before the trial did; see {tmp_path / 'out'}" in done.stdout
    assert "SGD at learning rate" in done.stdout
    assert not mark.processes()


def own_files(task_file: Path, folder: Path) -> tuple[object, ...]:
    """A package with a task and a file with an optimizer that ends the process, and arguments."""
    (folder / "mine").mkdir()
    (folder / "mine" / "__init__.py").touch()
    shutil.copy(task_file, folder / "mine" / "tasks.py")
    (folder / "deadly.py").write_text(
        "import os\nimport keras\n\n\n"
        "class Deadly(keras.optimizers.SGD):\n"
        "    def update_step(self, gradient, variable, learning_rate):\n"
        "        os._exit(9)\n"
    )
    return (
        *("mine.tasks:line", "--optimizers", "deadly.py:Deadly", "sgd"),
        *("--learning-rates", "0.01,0.1", "--seeds", 1),
    )


@pytest.fixture
def cluster(tmp_path: Path, mark: Mark, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster of two processors."""
    session = tempfile.mkdtemp(dir="/tmp")  # sockets in it have to have short paths
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    # Its workers must not find the task because they happen to start beside it.
    (tmp_path / "elsewhere").mkdir()
    start = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}"),
        *("--node-ip-address=127.0.0.1", "--num-cpus=2", "--include-dashboard=false"),
        *("--object-store-memory=100000000", "--disable-usage-stats", f"--temp-dir={session}"),
    ]
    subprocess.run(
        start,
        env=os.environ | mark.variables,
        cwd=tmp_path / "elsewhere",
        check=True,
        capture_output=True,
        timeout=60,
    )
    yield f"127.0.0.1:{port}"
    mark.kill()
    shutil.rmtree(session)


def test_a_cluster_gets_the_users_files_and_survives(
    task_file: Path, tmp_path: Path, mark: Mark, cluster: str
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    arguments = own_files(task_file, folder)
    done = run(
        *(*arguments, "--engine", "ray", "--address", cluster, "--out", folder / "out"),
        cwd=folder,
        mark=mark,
    )
    assert done.returncode == 1, done.stderr
    assert "Deadly cannot be trained: its process ended before the trial did" in done.stdout
    assert {row["optimizer"] for row in without_times(folder / "out")} == {"SGD"}
    assert mark.processes()


@pytest.mark.extended
def test_what_fits_on_no_machine_is_refused(tmp_path: Path, mark: Mark, cluster: str) -> None:
    refused = run(
        *("digits", "--engine", "ray", "--address", cluster, "--threads", 3),
        *("--out", tmp_path / "out"),
        mark=mark,
    )
    assert refused.returncode == 2
    assert "no machine of the Ray cluster has 3 processors" in refused.stderr
    assert "the largest has 2" in refused.stderr
    assert refused.stderr.count("surefoot: error:") == 1


def refuse(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> str:
    assert main(["compare", *arguments, "--out", str(folder / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--engine", "cloud"], "known are processes, ray"),
        (["--address", "auto"], "needs --engine ray"),
        (["--engine", "ray", "--address", "ray://head:10001"], "--address must be host:port"),
        (["--engine", "ray", "--address", "head"], "--address must be host:port"),
        (["--engine", "ray", "--address", "127.0.0.1:1"], "cannot reach a Ray cluster at 127.0"),
        (["--engine", "ray", "--address", "auto"], "Could not find any running Ray instance"),
        (["--engine", "ray", "--jobs", "0"], "--jobs"),
    ],
)
def test_wrong_requests_are_refused(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    # Where Ray notes the cluster that `auto` means.
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert expected in refuse(capsys, tmp_path, *arguments)


def test_what_is_not_a_cluster_is_given_up_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "_SECONDS_TO_JOIN", 3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        error = refuse(capsys, tmp_path, "--engine", "ray", "--address", address)
    assert f"what answers at {address} did not let this machine join" in error


def test_without_ray_the_extra_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "surefoot[compare,ray]" in refuse(capsys, tmp_path, "--engine", "ray")
