"""Runs scripts in processes of their own, for a bounded time, and leaves none behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
TESTS = Path(__file__).parents[1]
SECONDS = 240
"""Far beyond what any script takes; a script that hangs is an error by then."""


def environment(**variables: str) -> dict[str, str]:
    """This process's environment, and what the scripts import."""
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": "1",
        **variables,
    }


def start(
    script: Path | str, *arguments: object, stderr: int = subprocess.PIPE, **variables: str
) -> subprocess.Popen[str]:
    """Start a script in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )


def run(
    script: Path | str, *arguments: object, timeout: float = SECONDS, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end; its process group is killed whatever happens."""
    with start(script, *arguments, **variables) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            kill_group(process.pid)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def kill_after(step: int, script: Path | str, *arguments: object) -> None:
    """Start a script and kill all its processes when it has done a step."""
    running = start(script, *arguments, stderr=subprocess.DEVNULL)
    try:
        assert running.stdout is not None
        reached = any(line.startswith(f"step {step}\n") for line in running.stdout)
        assert reached, "it ended before it could be killed"
    finally:
        kill_group(running.pid)
        running.communicate()


def succeed(script: Path | str, *arguments: object, **options: str) -> None:
    """Run a script that must end well."""
    done = run(script, *arguments, **options)
    assert done.returncode == 0, done.stdout + done.stderr


def kill_group(group: int) -> None:
    """Kill what is left of a group of processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def alive(group: int) -> bool:
    """Whether a group of processes has a member."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
