"""Kills what is left of a Ray cluster when the process that started the cluster is gone.

Ray's own processes end with that process, but for its agents: if it was killed, they first try for
a minute to report that to a server which is gone as well.

This file is also run as a program, by its path: importing the package would import Keras.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

# A process's number is given anew some time after its end; with the time of its start it is unique.
Process = tuple[int, float]


def descendants() -> set[Process]:
    """The processes that this one has started, and theirs."""
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
        # Where Ray brings its own psutil, that is the one to be found.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C in the terminal is not for it
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
    # The end of the other process, however it comes, closes its end of the pipe.
    sys.stdin.read()
    for number, created in watched:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(number)
            if process.create_time() == created:
                process.kill()


if __name__ == "__main__":
    _watch()
