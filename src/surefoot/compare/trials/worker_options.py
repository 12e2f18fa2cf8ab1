"""The options for where the workers of `surefoot compare` run and how many there are."""

import argparse
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.compare.errors import UsageError

if TYPE_CHECKING:
    from surefoot.compare.trials.engine import Engine, Request

_ENGINES = ("processes", "ray")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--engine",
        default="processes",
        metavar="NAME",
        help="where trials run: processes (default) on this machine, or ray",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="a running Ray cluster, or auto (default: RAY_ADDRESS, else a new one on this "
        "machine that ends with the command)",
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        help="trials at once (default: 2, on one core 1; in a running Ray cluster: all that fit)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        help="threads per trial (default: cores divided by --jobs; in a running Ray cluster: 1)",
    )


@dataclass(frozen=True)
class Workers:
    """Which engine, and its settings.

    Attributes:
        engine: `"processes"` or `"ray"`.
        address: Address of a running Ray cluster; `None` to join none.
        jobs: The largest number of trials at once; 0 for as many as fit in a running cluster.
        threads: Threads per trial.
    """

    engine: str
    address: str | None
    jobs: int
    threads: int

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> "Workers":
        """Check the options.

        Raises:
            UsageError: If an option cannot be used, or contradicts another one.
        """
        engine, address = arguments.engine, arguments.address
        if engine not in _ENGINES:
            raise UsageError(f"unknown --engine {engine!r}; known are {', '.join(_ENGINES)}")
        if engine == "ray":
            if importlib.util.find_spec("ray") is None:
                raise UsageError(
                    "--engine ray needs ray; install with pip install 'surefoot[compare,ray]'"
                )
            address = address or os.environ.get("RAY_ADDRESS") or None
            address = None if address == "local" else address
        elif address is not None:
            raise UsageError(
                f"--address {address} is the address of a Ray cluster and needs --engine ray. "
                f"Received: --engine {engine}"
            )
        jobs, threads = _numbers(arguments, is_joining=address is not None)
        return cls(engine, address, jobs, threads)

    def start(self, request: "Request", backend: str, threads: int, log: Path) -> "Engine[Any]":
        """The engine, to be used as a context manager.

        Args:
            request: What the workers train.
            backend: Name of the Keras backend.
            threads: Threads per trial; a resumed run keeps its number.
            log: File for the output of workers on this machine.
        """
        if self.engine == "ray":
            from surefoot.compare.trials.ray_engine import RayEngine

            return RayEngine(request, backend, self.jobs, threads, log, self.address)
        from surefoot.compare.trials.processes import ProcessEngine

        return ProcessEngine(request, backend, self.jobs, threads, log)


def positive(name: str, text: str) -> int:
    """The whole number given for the option `name`.

    Raises:
        UsageError: If it is not a positive whole number.
    """
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{name} must be a positive whole number. Received: {text!r}")
    return int(text)


def _numbers(arguments: argparse.Namespace, is_joining: bool) -> tuple[int, int]:
    jobs = None if arguments.jobs is None else positive("--jobs", arguments.jobs)
    threads = None if arguments.threads is None else positive("--threads", arguments.threads)
    if is_joining:
        return jobs or 0, threads or 1
    available = cores()
    jobs = jobs or min(2, available)
    return jobs, threads or max(available // jobs, 1)


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
