"""Start several workers of one training on this machine, and end them together.

    python launch.py --workers 2 train.py [ARGUMENTS]

Every worker gets what PyTorch (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) and TensorFlow
(TF_CONFIG) read. If one fails, the others, which would wait for it, are stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind((HOST, 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def is_taken(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, port))
        except OSError:
            return True
    return False


def environment(rank: int, ports: list[int]) -> dict[str, str]:
    cluster = {"worker": [f"{HOST}:{port}" for port in ports]}
    return os.environ | {
        "PYTHONFAULTHANDLER": "1",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(len(ports)),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(ports[0]),
        "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}}),
    }


def die_with_parent() -> None:
    """Have Linux kill this process when the launcher is killed without a chance to."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def verdict(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def show_where_it_is(worker: subprocess.Popen[bytes], patience: float = 10) -> None:
    """Have a worker write the stack of each thread, which SIGABRT does, and end."""
    worker.send_signal(signal.SIGABRT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(patience)


def failure(workers: list[subprocess.Popen[bytes]], deadline: float) -> str | None:
    """Wait for all workers; say what went wrong first, or None."""
    while True:
        codes = [worker.poll() for worker in workers]
        for rank, code in enumerate(codes):
            if code:
                return (
                    f"worker {rank} of {len(workers)} {verdict(code)}; the others were stopped. "
                    "Its output is above. To go on from the last checkpoint, start again, "
                    "with as many workers as you like"
                )
        if None not in codes:
            return None
        if time.monotonic() > deadline:
            late = [rank for rank, code in enumerate(codes) if code is None]
            for rank in late:
                show_where_it_is(workers[rank])
            names = ", ".join(map(str, late))
            return (
                f"worker(s) {names} did not end in time and were stopped; see --timeout. "
                "Where each of them was is above"
            )
        time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--port", type=int, help="of worker 0; by default any that is free")
    parser.add_argument("--timeout", type=float, default=float("inf"), help="seconds for all")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="script ...")
    given = parser.parse_args()
    ports = free_ports(given.workers)
    if given.port is not None:
        if is_taken(given.port):
            print(
                f"launch.py: port {given.port} of {HOST} is taken by another program. "
                "Choose another, or leave out --port",
                file=sys.stderr,
            )
            return 2
        ports[0] = given.port
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    workers = []
    try:
        for rank in range(given.workers):
            workers.append(
                subprocess.Popen(
                    [sys.executable, *given.command],
                    env=environment(rank, ports),
                    preexec_fn=die_with_parent,  # noqa: PLW1509 - there are no threads
                )
            )
        problem = failure(workers, time.monotonic() + given.timeout)
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()
    if problem is not None:
        print(f"launch.py: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
