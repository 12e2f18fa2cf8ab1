"""The subcommand `surefoot compare`."""

import argparse
import importlib.util
import signal
import sys
from pathlib import Path
from typing import Any

from surefoot.compare.errors import UsageError
from surefoot.compare.trials.worker_options import Workers, add_arguments

# The packages of the extra `compare`, with the names they are imported by.
_PACKAGES = {
    **{"jinja2": "jinja2", "optuna": "optuna", "pandas": "pandas", "plotly": "plotly"},
    "scikit-learn": "sklearn",
}
_EPILOG = """\
TASK       digits (default), digits-cnn, text, text-pre-norm, diabetes, or your own:
           package.module:function or file.py:function that returns a surefoot.compare.Task.
OPTIMIZER  A name, with optional arguments and modifiers: adam, "radam(beta_2=0.99)",
           "lookahead(sgd(momentum=0.9))", "adam+warmup(0.1)+cosine". Names are surefoot's
           (radam, nadam, lookahead, ranger), otherwise Keras's. keras.nadam is Keras's own
           nadam. Yours: package.module:Class or file.py:function(argument=1).
MODIFIERS  They change the learning rate over the run: warmup(FRACTION or STEPS),
           cosine(final=0), linear(final=0), constant, scale(FACTOR).

examples:
  surefoot compare
  surefoot compare text --optimizers adam radam ranger --learning-rates 1e-3:1e-1:5 --steps 300
  surefoot compare mine.py:task --optimizers adam+warmup(0.1)+cosine radam --backend torch
  surefoot compare mine.py:task --vary weight_decay --budget 2h --target adamw
  surefoot compare --add lion
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
    parser.add_argument("task", nargs="?", metavar="TASK")
    parser.add_argument("--optimizers", nargs="+", metavar="OPTIMIZER", help="default: the task's")
    parser.add_argument(
        "--learning-rates",
        metavar="LOW:HIGH:COUNT",
        help="a range and how many settings are tried; default: the task's. A list separated by "
        "commas is tried as it is. If a best one is at the edge of a range, some beyond it follow",
    )
    parser.add_argument(
        "--search",
        metavar="NAME",
        help="how the settings are chosen: qmc (default), quasi-random and the same for each "
        "optimizer; tpe, each optimizer's by its results so far; or grid, of learning rates",
    )
    parser.add_argument(
        "--vary",
        nargs="+",
        metavar="NAME[=LOW:HIGH]",
        help="search these hyperparameters too, such as weight_decay, beta_1 and beta_2",
    )
    parser.add_argument(
        "--schedule",
        metavar="NAME",
        help="how learning rates change over a run: cosine (default) or linear, to zero after a "
        "short warmup; or constant. An optimizer with a schedule of its own keeps that",
    )
    parser.add_argument("--seeds", metavar="N", help="seeds of the search (default: 3)")
    parser.add_argument(
        "--fresh-seeds",
        metavar="N",
        help="with how many further seeds each optimizer is trained again at its best setting; "
        "these alone decide (default: 10; 0: none)",
    )
    parser.add_argument(
        "--steps", metavar="N", help="optimizer steps per trial; default: the task's"
    )
    parser.add_argument(
        "--budget",
        metavar="TIME|TRIALS",
        help="like 30m, 2h or 200: try as many settings as fit, and not COUNT of them",
    )
    parser.add_argument(
        "--target",
        metavar="RESULT|OPTIMIZER",
        help="compare the time to this result, or to what this one of the optimizers reaches",
    )
    parser.add_argument(
        "--halving",
        metavar="NAME",
        help="successive halving: only the better half of the settings gets each further seed "
        "(seeds), or runs for twice as long (steps)",
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
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in DIR; what is not given is as it was at its last start",
    )
    parser.add_argument(
        "--add", nargs="+", metavar="OPTIMIZER", help="resume the run in DIR with these as well"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="start anew in DIR, which holds a run"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out `surefoot compare`."""
    try:
        check_dependencies()
        return _compare(arguments)
    except UsageError as error:
        return refuse(error)
    except OSError as error:
        # Such as a full disk. What is written stays readable: an incomplete last line is left out.
        return refuse(
            f"{fault(error)}; the finished trials are in {arguments.out}; to continue, run the "
            "same command with --resume"
        )
    except KeyboardInterrupt:
        print(
            f"stopped; the finished trials are in {arguments.out}; "
            f"to continue, run the same command with --resume",
            file=sys.stderr,
        )
        return 130


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
        package for package, module in _PACKAGES.items() if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise UsageError(
            f"compare needs {' and '.join(missing)}; install with pip install 'surefoot[compare]'"
        )


def _compare(arguments: argparse.Namespace) -> int:
    from surefoot.compare.settings import DEFAULTS, Settings, asked_before, check_folder

    folder = arguments.out
    resume = check_folder(
        folder, resume=arguments.resume, add=arguments.add, overwrite=arguments.overwrite
    )
    given = {name: getattr(arguments, name) for name in DEFAULTS}
    settings = Settings.read(given, asked_before(folder) if resume else {})
    workers = Workers.read(arguments)
    # Only now, since these load SciPy, Optuna and more: a wrong request is refused at once.
    from rich.console import Console
    from rich.text import Text

    from surefoot.compare.comparison import carry_out
    from surefoot.compare.report.html import write_report
    from surefoot.compare.report.table import closing_table
    from surefoot.compare.statistics.analysis import summarize
    from surefoot.compare.statistics.verdict import verdict

    def start(request: Any, threads: int | None, log: Path) -> Any:
        return workers.start(request, settings.backend, threads or workers.threads, log)

    console = Console()
    # On SIGTERM, such as from a job scheduler, the workers are closed as on Ctrl-C.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        finished = carry_out(settings, start, folder, console, resume=resume)
    finally:
        signal.signal(signal.SIGTERM, before)
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
