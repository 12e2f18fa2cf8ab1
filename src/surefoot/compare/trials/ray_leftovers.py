"""Kills the remaining processes of a Ray cluster after the process that started it has ended.

Ray's own processes end with that process, except its agents: if it was killed, they try for a
minute to report this to a server that has ended, too.

This file is also run as a script by its path, since importing the package would import Keras.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

# Process IDs are reused; an ID together with its start time is unique.
Process = tuple[int, float]


def descendants() -> set[Process]:
    """All child processes of this process, recursively."""
    import psutil

    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found.add((process.pid, process.create_time()))
    return found


@contextlib.contextmanager
def no_leftovers(watched: set[Process]) -> Iterator[None]:
    """Kill these processes on leaving, or when this process is killed."""
    watcher = subprocess.Popen(
        [sys.executable, __file__],
        # Ray may bring its own psutil, which must be found.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        start_new_session=True,  # so that Ctrl-C does not reach it
    )
    assert watcher.stdin is not None
    watcher.stdin.write(json.dumps(sorted(watched)).encode() + b"\n")
    watcher.stdin.flush()
    try:
        yield
    finally:
        watcher.stdin.close()
        watcher.wait()


def _watch() -> None:
    import psutil

    watched = json.loads(sys.stdin.readline())
    # When the parent process ends for any reason, its end of the pipe is closed.
    sys.stdin.read()
    for number, created in watched:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(number)
            if process.create_time() == created:
                process.kill()


if __name__ == "__main__":
    _watch()
