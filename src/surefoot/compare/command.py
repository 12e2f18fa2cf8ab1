"""The subcommand `surefoot compare`."""

import argparse
import importlib.util
import platform
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surefoot.compare.errors import UsageError
from surefoot.compare.trials.worker_options import Workers, add_arguments, positive

_EPILOG = """\
TASK       digits (default), digits-cnn, text, text-pre-norm, diabetes, or your own:
           package.module:function or file.py:function that returns a surefoot.compare.Task.
OPTIMIZER  A name, with optional arguments and modifiers: adam, "radam(beta_2=0.99)",
           "lookahead(sgd(momentum=0.9))", "adam+warmup(0.1)+cosine". Names are surefoot's
           (radam, nadam, lookahead, ranger), otherwise Keras's. keras.nadam is Keras's own
           nadam. Yours: package.module:Class or file.py:function(argument=1).
MODIFIERS  They change the learning rate over the run: warmup(FRACTION or STEPS),
           cosine(final=0), linear(final=0), scale(FACTOR).

examples:
  surefoot compare
  surefoot compare text --optimizers adam radam ranger --learning-rates 1e-3:1e-1:5 --steps 300
  surefoot compare mine.py:task --optimizers adam+warmup(0.1)+cosine radam --backend torch
  surefoot compare mine.py:task --engine ray --address 10.0.0.1:6379
"""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "compare",
        help="compare optimizers over learning rates and seeds",
        description="Train a model with several optimizers over several learning rates and seeds,\n"
        "and report which one is best, at which learning rate, and how certain that is.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", nargs="?", default="digits", metavar="TASK")
    parser.add_argument("--optimizers", nargs="+", metavar="OPTIMIZER", help="default: the task's")
    parser.add_argument(
        "--learning-rates",
        metavar="LOW:HIGH:COUNT",
        help="or a list separated by commas; default: the task's",
    )
    parser.add_argument("--seeds", default="3", metavar="N", help="number of seeds (default: 3)")
    parser.add_argument(
        "--fresh-seeds",
        metavar="N",
        help="with how many further seeds each optimizer is trained again at its best learning "
        "rate; these alone decide (default: as many as --seeds; 0: none)",
    )
    parser.add_argument(
        "--steps", metavar="N", help="optimizer steps per trial; default: the task's"
    )
    parser.add_argument("--backend", metavar="NAME", help="tensorflow, jax or torch")
    add_arguments(parser)
    parser.add_argument(
        *("--out", "--output"),
        type=Path,
        default=Path("surefoot-report"),
        metavar="DIR",
        help="folder for results and report (default: surefoot-report)",
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in DIR")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class _Settings:
    """The arguments, checked as far as they can be without importing Keras."""

    task: str
    optimizers: tuple[str, ...] | None
    learning_rates: tuple[float, ...] | None
    seeds: int
    fresh_seeds: int
    steps: int | None
    backend: str
    workers: Workers
    folder: Path
    resume: bool


def run(arguments: argparse.Namespace) -> int:
    """Carry out `surefoot compare`."""
    try:
        check_dependencies()
        settings = _read(arguments)
    except UsageError as error:
        return refuse(error)
    # On SIGTERM, such as from a job scheduler, the workers are closed as on Ctrl-C.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _compare(settings)
    except UsageError as error:
        return refuse(error)
    except OSError as error:
        # Such as a full disk. What is written stays readable: an incomplete last line is left out.
        return refuse(
            f"{fault(error)}; the finished trials are in {settings.folder}; to continue, run the "
            "same command with --resume"
        )
    except KeyboardInterrupt:
        print(
            f"stopped; the finished trials are in {settings.folder}; "
            f"to continue, run the same command with --resume",
            file=sys.stderr,
        )
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse(error: UsageError | str) -> int:
    """Print in one line what is wrong with the request."""
    print(f"surefoot: error: {error}", file=sys.stderr)
    return 2


def fault(error: OSError) -> str:
    """What the system has refused, and for which file."""
    place = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{place}"


def check_dependencies() -> None:
    """Check that the packages of the extra `compare` are installed."""
    missing = [
        package
        for package, module in (("plotly", "plotly"), ("scikit-learn", "sklearn"))
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise UsageError(
            f"compare needs {' and '.join(missing)}; install with pip install 'surefoot[compare]'"
        )


def _read(arguments: argparse.Namespace) -> _Settings:
    from surefoot.compare.search.expression import parse_list
    from surefoot.compare.search.learning_rates import parse_learning_rates
    from surefoot.compare.search.schedule import Schedule
    from surefoot.compare.trials.backend import choose_backend

    optimizers = None
    if arguments.optimizers is not None:
        expressions = parse_list(arguments.optimizers)
        for expression in expressions:
            Schedule.of(expression.modifiers)
        optimizers = tuple(map(str, expressions))
        _refuse_duplicates(optimizers)
    rates = arguments.learning_rates
    return _Settings(
        task=arguments.task,
        optimizers=optimizers,
        learning_rates=None if rates is None else parse_learning_rates(rates),
        seeds=positive("--seeds", arguments.seeds),
        fresh_seeds=_fresh_seeds(arguments),
        steps=None if arguments.steps is None else positive("--steps", arguments.steps),
        backend=choose_backend(arguments.backend),
        workers=Workers.read(arguments),
        folder=arguments.out,
        resume=arguments.resume,
    )


def _fresh_seeds(arguments: argparse.Namespace) -> int:
    given = arguments.seeds if arguments.fresh_seeds is None else arguments.fresh_seeds
    return 0 if given == "0" else positive("--fresh-seeds", given)


def _refuse_duplicates(names: Sequence[str]) -> None:
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise UsageError(f"the same optimizer is given twice: {', '.join(duplicates)}")


def _compare(settings: _Settings) -> int:
    from rich.console import Console
    from rich.text import Text

    from surefoot.compare.report.html import write_report
    from surefoot.compare.report.table import closing_table
    from surefoot.compare.search.learning_rates import parse_learning_rates
    from surefoot.compare.statistics.analysis import summarize
    from surefoot.compare.statistics.verdict import verdict
    from surefoot.compare.trials.engine import Request
    from surefoot.compare.trials.store import FILE, Run, Store, Trial, has_run, read

    folder = settings.folder
    threads = settings.workers.threads
    if settings.resume and has_run(folder / FILE):
        # The number of threads decides the order of sums, so it stays the same.
        threads = read(folder / FILE).header["threads"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    console = Console()
    request = Request(settings.task, settings.steps, settings.optimizers)
    log = folder.resolve() / "workers.log"
    with settings.workers.start(request, settings.backend, threads, log) as engine:
        with console.status("importing Keras and creating the task"):
            facts = engine.prepare()
        labels = facts.pop("labels")
        _refuse_duplicates(labels)
        default_rates = facts.pop("learning_rates")
        rates = settings.learning_rates or parse_learning_rates(default_rates)
        seeds = list(range(settings.seeds))
        wanted = [Trial(label, r, s) for label in labels for s in seeds for r in rates]
        header = {
            **facts,
            "backend": settings.backend,
            "threads": threads,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        }
        store = Store(folder)
        if settings.resume:
            known = store.resume(header)
        else:
            store.start(header)
            known = Run(header)
        store.plan(labels, list(rates), seeds)
        _train(engine, store, known, wanted, labels, console)
        if len(rates) > 1 and settings.fresh_seeds:
            _confirm(engine, store, settings.fresh_seeds, labels, console)
    finished = read(store.path)
    summary = summarize(finished)
    report = write_report(folder, [finished])
    console.print(closing_table(summary, console.width))
    for sentence in verdict(summary):
        # Lines are wrapped only on a terminal; in a log a sentence stays on one line.
        console.print(Text(f"- {sentence}"), soft_wrap=not console.is_terminal)
    console.print(f"report: {report}", soft_wrap=True)
    if not any(record["status"] == "finished" for record in finished.records.values()):
        print("surefoot: no trial has finished; all diverged or failed", file=sys.stderr)
        return 1
    return 1 if summary.failures else 0


def _confirm(engine: Any, store: Any, count: int, labels: list[str], console: Any) -> None:
    """Train each optimizer again at its best learning rate, with seeds that had no part in it."""
    from surefoot.compare.statistics.analysis import summarize
    from surefoot.compare.trials.store import FIRST_FRESH_SEED, Trial, read

    known = read(store.path)
    seeds = [FIRST_FRESH_SEED + i for i in range(count)]
    chosen = {
        each.label: each.chosen
        for each in summarize(known).optimizers
        if each.chosen is not None and each.label in labels
    }
    for label, rate in chosen.items():
        store.plan([label], [rate], seeds)
    wanted = [Trial(label, rate, seed) for label, rate in chosen.items() for seed in seeds]
    if wanted:
        what = "each at its best learning rate, with fresh seeds"
        _train(engine, store, known, wanted, labels, console, what)


def _train(
    engine: Any,
    store: Any,
    known: Any,
    wanted: list[Any],
    labels: list[str],
    console: Any,
    what: str = "",
) -> None:
    from surefoot.compare.trials.progress import Display

    done = [trial for trial in wanted if trial in known.records]
    missing = [trial for trial in wanted if trial not in known.records]
    header = known.header
    display = Display(console, len(wanted), len(done), header["steps"], header["higher_is_better"])
    display.known((trial, known.records[trial]) for trial in done)
    optimizers = len({trial.optimizer for trial in wanted})
    console.print(
        f"{what or header['description'] or header['task']}\n{optimizers} optimizers, "
        f"{len(wanted)} trials of {header['steps']} steps on {header['backend']}"
        + (f"; {len(done)} of them are already done" if done else ""),
        highlight=False,
        soft_wrap=True,
    )
    with display.live():
        for event in engine.run(missing, labels):
            if event.kind == "started":
                display.started(event.trial)
            elif event.kind == "progress":
                display.stepped(event.trial, event.content)
            elif event.kind == "done":
                store.add(event.trial, event.content)
                display.finished(event.trial, event.content)
            elif event.kind == "failed":
                message, traceback, dropped = event.content
                store.add_failure(event.trial.optimizer, message)
                display.failed(event.trial, dropped, message, traceback)
