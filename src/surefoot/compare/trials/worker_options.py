"""The options that say where the workers of `surefoot compare` run, and how many there are."""

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
        help="a running Ray cluster, or auto (default: RAY_ADDRESS, else one on this machine, "
        "for this command only)",
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        help="trials at once (default: 2, or 1 core: 1; in a running Ray cluster: all it holds)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        help="threads of each trial (default: the cores, shared out; in a running Ray cluster: 1)",
    )


@dataclass(frozen=True)
class Workers:
    """Which engine, and its settings.

    Attributes:
        engine: `"processes"` or `"ray"`.
        address: Of a running Ray cluster; `None` if none is to be joined.
        jobs: Trials at once at most; 0 for as many as a running cluster has room for.
        threads: Threads of each.
    """

    engine: str
    address: str | None
    jobs: int
    threads: int

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> "Workers":
        """Check the options.

        Raises:
            UsageError: If one cannot be used, or does not go with another.
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
                f"--address {address} is of a Ray cluster and needs --engine ray. "
                f"Received: --engine {engine}"
            )
        jobs, threads = _numbers(arguments, is_joining=address is not None)
        return cls(engine, address, jobs, threads)

    def start(self, request: "Request", backend: str, threads: int, log: Path) -> "Engine[Any]":
        """The engine, to be entered.

        Args:
            request: What the workers are prepared for.
            backend: Name of the Keras backend.
            threads: In place of `threads`, where an earlier start has settled them.
            log: File that takes what workers on this machine print.
        """
        if self.engine == "ray":
            from surefoot.compare.trials.ray_engine import RayEngine

            return RayEngine(request, backend, self.jobs, threads, log, self.address)
        from surefoot.compare.trials.processes import ProcessEngine

        return ProcessEngine(request, backend, self.jobs, threads, log)


def positive(name: str, text: str) -> int:
    """The whole number given for the option `name`.

    Raises:
        UsageError: If it is not one, or not positive.
    """
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{name} must be a positive whole number. Received: {text!r}")
    return int(text)


def _numbers(arguments: argparse.Namespace, is_joining: bool) -> tuple[int, int]:
    jobs = None if arguments.jobs is None else positive("--jobs", arguments.jobs)
    threads = None if arguments.threads is None else positive("--threads", arguments.threads)
    if is_joining:
        return jobs or 0, threads or 1
    cores = _cores()
    jobs = jobs or min(2, cores)
    return jobs, threads or max(cores // jobs, 1)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
