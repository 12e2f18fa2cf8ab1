"""The engine whose workers are actors on a Ray cluster.

Without an address, a cluster is started on this machine and ends with the command.
"""

import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray

from surefoot.compare.errors import UsageError
from surefoot.compare.trials.engine import SECONDS_BETWEEN_EVENTS, Engine, Event, WorkerHandle
from surefoot.compare.trials.processes import environment
from surefoot.compare.trials.ray_leftovers import descendants, no_leftovers
from surefoot.compare.trials.store import Trial
from surefoot.compare.trials.worker import Worker

_SECONDS_TO_CONNECT = 10
_SECONDS_TO_JOIN = 40
# Messages are small for every model; by default Ray reserves a third of the memory.
_OBJECT_STORE_BYTES = 100_000_000
_FAILURES = (OSError, RuntimeError, ValueError, ray.exceptions.RayError)


@dataclass
class _Actor(WorkerHandle):
    actor: Any = field(kw_only=True)
    # The pending answer to the request, or the stream of messages of a trial.
    answers: Any = field(kw_only=True)


@dataclass
class RayEngine(Engine[_Actor]):
    """Trains trials in actors of Ray.

    Args:
        address: Address of a running cluster, `host:port` or `auto`; `None` starts one on this
            machine and ends it afterwards. In a running cluster, `jobs=0` means as many workers
            as its processors allow.
    """

    address: str | None = None
    _cluster: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> "RayEngine":
        if self.address is None:
            self._cluster.enter_context(_own_cluster(self.jobs * self.threads))
            at_once = self.jobs
        else:
            self._cluster.enter_context(_joined_cluster(self.address, self._files()))
            at_once = 1
        try:
            if self.address is not None:
                self.jobs = _worker_count(self.jobs, self.threads)
            for _ in range(at_once):
                self._start_worker()
        except BaseException:
            self._cluster.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            # A running trial is lost; waiting for it would take too long.
            ray.kill(worker.actor)
        self._cluster.close()

    def run(self, trials: Sequence[Trial], labels: Sequence[str]) -> Iterator[Event]:
        """See `Engine.run`; there are no more workers than trials."""
        while len(self._workers) < min(self.jobs, len(trials)):
            self._start_worker()
        return super().run(trials, labels)

    def _start_worker(self) -> None:
        kind = ray.remote(num_cpus=self.threads, max_restarts=0)(Worker)
        options = {"runtime_env": {"env_vars": self._environment()}}
        actor = kind.options(**options).remote(self.log if self.address is None else None)
        answer = actor.prepare.remote(self.request)
        self._workers.append(_Actor(actor=actor, answers=answer))

    def _assign(self, worker: _Actor, optimizer: int, trial: Trial) -> None:
        train = worker.actor.train.options(num_returns="streaming")
        worker.answers = train.remote(optimizer, trial)

    def _listen(self) -> list[tuple[_Actor, tuple[Any, ...]]]:
        busy = [worker for worker in self._workers if worker.answers is not None]
        waited_for = [worker.answers for worker in busy]
        ready, _ = ray.wait(waited_for, num_returns=1, timeout=SECONDS_BETWEEN_EVENTS)
        return [(worker, self._receive(worker)) for worker in busy if worker.answers in ready]

    def _receive(self, worker: _Actor) -> tuple[Any, ...]:
        answers = worker.answers
        try:
            is_stream = isinstance(answers, ray.ObjectRefGenerator)
            message: tuple[Any, ...] = ray.get(next(answers) if is_stream else answers)
        except ray.exceptions.RayError as error:
            worker.answers = None
            return "ended", self._failure_reason(error)
        if message[0] != "progress":
            worker.answers = None
        return message

    def _failure_reason(self, error: Exception) -> str:
        text = str(error)
        if isinstance(error, ray.exceptions.RayActorError) and "Worker exit type" in text:
            log = "Ray's logs" if self.address is not None else self.log
            return f"its process ended before the trial did; see {log}"
        return _last_line(text)

    def _files(self) -> dict[str, Any]:
        """Ray's `runtime_env` with the files that workers of a running cluster need."""
        is_ours = any(":" in reference for reference in self.request.references)
        # `ray job submit` has already sent the files, and Ray accepts them only once.
        if not is_ours or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
            return {}
        here, folder = Path.cwd(), self.log.parent.resolve()
        excluded = [f"/{folder.relative_to(here)}/"] if folder.is_relative_to(here) else []
        return {"working_dir": str(here), "excludes": excluded}


@contextmanager
def _own_cluster(processors: int) -> Iterator[None]:
    # Sockets in this folder must have short paths, and TMPDIR may be long.
    short = "/tmp" if Path("/tmp").is_dir() else None
    settings = {
        # A new token for each cluster, which is not stored in the user's home.
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Workers see the machine's accelerators, as in the process engine.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    with (
        tempfile.TemporaryDirectory(
            prefix="surefoot-", dir=short, ignore_cleanup_errors=True
        ) as folder,
        environment(settings),
        ExitStack() as stack,
    ):
        others = descendants()
        _connect(
            "cannot start Ray on this machine",
            address="local",
            num_cpus=processors,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _temp_dir=folder,
        )
        stack.enter_context(no_leftovers(descendants() - others))
        stack.callback(ray.shutdown, wait_for_processes=True)
        yield


@contextmanager
def _joined_cluster(address: str, files: dict[str, Any]) -> Iterator[None]:
    _probe(address)
    _connect(f"cannot join the Ray cluster at {address}", address=address, runtime_env=files)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(complaint: str, **options: Any) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _interrupted_afterwards():
            ray.init(log_to_driver=False, configure_logging=False, **options)
    except BaseException as error:
        ray.shutdown(wait_for_processes=True)
        if isinstance(error, _FAILURES):
            raise UsageError(f"{complaint}: {_last_line(str(error))}") from None
        if isinstance(error, SystemExit):
            # A SIGTERM that arrived while Ray's handler was in place.
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
    finally:
        # Ray's handler would end this process but not the processes it has started.
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """Let Ctrl-C wait: Ray, if interrupted while it starts, crashes when this process ends.

    A second one does not wait.
    """
    handler = signal.getsignal(signal.SIGINT)
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, handler)

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if asked:
        raise KeyboardInterrupt


def _probe(address: str) -> None:
    """Check within a limited time that there is a cluster to join.

    Raises:
        UsageError: If this machine cannot join a cluster at the address.
    """
    host, _, port = address.rpartition(":")
    if address != "auto":
        if "//" in host or not host or not port.isdecimal():
            raise UsageError(
                f"--address must be host:port of a Ray cluster that this machine is part of, or "
                f"auto. Received: {address!r}"
            )
        try:
            socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot reach a Ray cluster at {address}: {error}") from None
    # In a child process: Ray tries for minutes, ignores signals and may abort the process.
    code = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)"
    try:
        tried = subprocess.run(
            [sys.executable, "-c", code, address],
            env=os.environ | {"RAY_BACKEND_LOG_LEVEL": "fatal"},
            capture_output=True,
            text=True,
            timeout=_SECONDS_TO_JOIN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"what answers at {address} did not let this machine join a Ray cluster within "
            f"{_SECONDS_TO_JOIN} seconds"
        ) from None
    if tried.returncode:
        raise UsageError(f"cannot join a Ray cluster at {address}: {_last_line(tried.stderr)}")


def _worker_count(jobs: int, threads: int) -> int:
    """The number of workers in the cluster.

    Raises:
        UsageError: If no machine of it has enough processors for one.
    """
    processors = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    fitting = sum(count // threads for count in processors)
    if not fitting:
        raise UsageError(
            f"no machine of the Ray cluster has {threads} processors for one worker (--threads); "
            f"the largest has {max(processors, default=0)}"
        )
    return jobs or fitting


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
