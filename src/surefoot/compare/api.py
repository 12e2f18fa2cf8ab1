"""`surefoot compare` in Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from surefoot.compare.command import check_dependencies
from surefoot.compare.study import Study
from surefoot.compare.trials.task import Task


def compare(
    task: Task | str,
    optimizers: Sequence[str] | None = None,
    *,
    learning_rates: str | Sequence[float] | None = None,
    search: str | None = None,
    vary: Sequence[str] | None = None,
    schedule: str | None = None,
    seeds: int | None = None,
    fresh_seeds: int | None = None,
    steps: int | None = None,
    budget: str | int | None = None,
    target: float | str | None = None,
    halving: str | None = None,
    add: Sequence[str] = (),
    folder: str | Path = "surefoot-report",
    resume: bool = False,
    overwrite: bool = False,
    show_progress: bool = True,
) -> Study:
    """Compare optimizers on a task, in this process, one trial after the other.

    `surefoot.compare(task)` is the same, without a further import; only type checkers do not know
    that a module can be called.
    It does what the command `surefoot compare` does, with the same options, numbers and files, but
    takes a `Task` that has no file, as in a notebook. An optimizer that is defined in the notebook
    is `"__main__:Name"`. The command trains several trials at once, on a Ray cluster, too.
    The random seeds of the process are set anew for each trial.

    Args:
        task: A `Task`, or its name as the command takes it.
        optimizers: Optimizer expressions; by default those of the task.
        learning_rates: `"LOW:HIGH:COUNT"`, or the learning rates themselves.
        search: How settings are chosen: `"qmc"`, `"tpe"` or `"grid"`.
        vary: Further hyperparameters to search, such as `["weight_decay=1e-5:1e-1"]`.
        schedule: `"cosine"`, `"linear"` or `"constant"`.
        seeds: How many seeds there are in the search.
        fresh_seeds: With how many further seeds each best setting is trained; these decide.
        steps: Optimizer steps per trial.
        budget: A time, like `"30m"`, or a number of trials.
        target: A result, or one of the optimizers, of which the time to reach it is compared.
        halving: Whether only the better half of the settings gets each further seed, `"seeds"`, or
            runs for twice as long, `"steps"`.
        add: Optimizers to add to the run in `folder`.
        folder: Where trials, report and studies are written.
        resume: Whether to go on with the run in `folder`; what is `None` is as it was there.
        overwrite: Whether to start anew in `folder`, which holds a run.
        show_progress: Whether to print how it goes.

    Returns:
        The finished study.

    Raises:
        UsageError: If something cannot be used, or `folder` holds a run that would be overwritten.

    Example:
        >>> import tempfile
        >>> import keras, numpy as np
        >>> import surefoot
        >>> from surefoot.compare import Task
        >>> x = np.linspace(-1, 1, 96, dtype="float32")[:, None]
        >>> def model():
        ...     return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> task = Task(model=model, train=(x, 2 * x), validation=(x, 2 * x), loss="mse", steps=5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     study = surefoot.compare(task, ["sgd"], learning_rates=[0.1], seeds=2,
        ...                              folder=folder, show_progress=False)
        >>> list(study.trials()["seed"])
        [0, 1]
    """
    check_dependencies()
    import keras
    from rich.console import Console

    from surefoot.compare.comparison import carry_out
    from surefoot.compare.report.html import write_report
    from surefoot.compare.settings import Settings, asked_before, check_folder
    from surefoot.compare.trials.engine import Request
    from surefoot.compare.trials.in_process import InProcessEngine
    from surefoot.compare.trials.worker_options import cores

    folder = Path(folder)
    goes_on = check_folder(folder, resume=resume, add=add, overwrite=overwrite)
    if learning_rates is not None and not isinstance(learning_rates, str):
        learning_rates = ",".join(map(repr, map(float, learning_rates)))
    backend = keras.backend.backend()
    given: dict[str, Any] = {
        **{"task": task, "optimizers": optimizers, "learning_rates": learning_rates},
        **{"search": search, "vary": vary, "schedule": schedule, "seeds": seeds},
        **{"fresh_seeds": fresh_seeds, "steps": steps, "backend": backend, "budget": budget},
        **{"target": target, "halving": halving, "add": add},
    }
    settings = Settings.read(given, asked_before(folder) if goes_on else {})

    def start(request: Request, threads: int | None, log: Path) -> InProcessEngine:
        return InProcessEngine(request, backend, 1, cores(), log)

    run = carry_out(settings, start, folder, Console(quiet=not show_progress), resume=goes_on)
    write_report(folder, [run])
    return Study(run)
