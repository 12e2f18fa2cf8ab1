"""What a comparison trains: a model, its data, and the value to compare."""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arguments.importing import import_file, import_object
from surefoot.compare.errors import UsageError

_BUILT_IN = {
    "digits": "surefoot.compare.trials.tasks.digits:mlp",
    "digits-cnn": "surefoot.compare.trials.tasks.digits:cnn",
    "text": "surefoot.compare.trials.tasks.text:transformer",
    "text-pre-norm": "surefoot.compare.trials.tasks.text:transformer_normalizing_first",
    "diabetes": "surefoot.compare.trials.tasks.diabetes:regression",
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model, its data, and the value to compare, for `surefoot compare`.

    Args:
        model: A function without arguments that returns a new Keras model. It need not be
            compiled; its optimizer, loss and metrics are ignored.
        train: `(inputs, targets)` to train on. Each is an array, or a tuple, list or dict of
            arrays, with the examples along the first axis.
        validation: `(inputs, targets)` of the same form, on which every result is measured.
        loss: As `keras.Model.compile` takes it.
        metric: The value to compare: a name as `keras.Model.compile` takes it, a metric object, of
            which each run gets a new one, or a function that returns a new one. Default: the
            validation loss.
        higher_is_better: Whether a larger value of `metric` is better. Required with a `metric`.
        name: The name in the report. Default: the path on the command line.
        description: One sentence for the report.
        batch_size: Examples per step.
        steps: Default length of a run, in optimizer steps; `--steps` overrides it.
        learning_rates: Default of `--learning-rates`.
        optimizers: Default of `--optimizers`.
        near_best: A learning rate is good if its result is within this distance of the overall
            best. Default: 0.01 for a metric where higher is better, and 5 % of the best
            value otherwise.
        target: The value for which the time to reach it is measured. Default: the bound given by
            `near_best`.
        facts: Further facts to record, such as the hash of a text that differs between versions of
            Python.

    Raises:
        UsageError: If a value cannot be used.

    Example:
        >>> import keras, numpy as np
        >>> from surefoot.compare import Task
        >>> x = np.linspace(-1, 1, 96, dtype="float32")[:, None]
        >>> def model():
        ...     return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> task = Task(model=model, train=(x, 2 * x), validation=(x, 2 * x), loss="mse")
        >>> task.higher_is_better, task.steps
        (False, 400)
    """

    model: Callable[[], Any]
    train: tuple[Any, Any]
    validation: tuple[Any, Any]
    loss: Any
    metric: Any = None
    higher_is_better: bool | None = None
    name: str = ""
    description: str = ""
    batch_size: int = 32
    steps: int = 400
    learning_rates: str = "1e-4:1e-1:7"
    optimizers: tuple[str, ...] = ("adam", "adamw", "radam", "nadam", "ranger")
    near_best: float | None = None
    target: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.model):
            raise UsageError(
                f"Task.model must be a function that returns a new model. "
                f"Received: model={self.model!r}"
            )
        if self.metric is None:
            if self.higher_is_better:
                raise UsageError(
                    "Task.higher_is_better=True needs a metric; a lower loss is better"
                )
            object.__setattr__(self, "higher_is_better", False)
        elif self.higher_is_better is None:
            raise UsageError(
                f"Task.metric={self.metric!r} also needs higher_is_better=True or False"
            )
        for name in ("batch_size", "steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"Task.{name} must be a positive integer. Received: {value!r}")
        for name in ("train", "validation"):
            _check_examples(name, getattr(self, name))
        if count_examples(self.train) < self.batch_size:
            raise UsageError(
                f"Task.batch_size={self.batch_size} is more than the "
                f"{count_examples(self.train)} training examples"
            )

    @property
    def metric_name(self) -> str:
        """The name of the compared value in the report."""
        if self.metric is None:
            return "validation loss"
        names = (getattr(self.metric, attribute, None) for attribute in ("name", "__name__"))
        named = next((name for name in names if name), "metric")
        return f"validation {self.metric if isinstance(self.metric, str) else named}"

    def data_hash(self) -> str:
        """SHA-256 of all examples, so that a run is never resumed with other data."""
        digest = hashlib.sha256()
        for array in (*leaves(self.train), *leaves(self.validation)):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def load_task(reference: str) -> Task:
    """Create the task called `reference`.

    Args:
        reference: A built-in task (`digits`, `digits-cnn`, `text`, `text-pre-norm`, `diabetes`), or
            `package.module:function` or `path/to/file.py:function` that returns a `Task`, or the
            path of a file with one such function.

    Raises:
        UsageError: If there is no such task, or the object is not a task.
    """
    if reference.endswith(".py"):
        reference = f"{reference}:{_only_task(reference)}"
    is_path = ":" in reference
    if not is_path and reference not in _BUILT_IN:
        raise UsageError(
            f"unknown task {reference!r}; known are {', '.join(_BUILT_IN)}, and "
            f"package.module:function or file.py:function for your own"
        )
    reference = reference if is_path else _BUILT_IN[reference]
    function = import_object(reference, "a task", UsageError)
    task = function() if callable(function) else function
    if not isinstance(task, Task):
        raise UsageError(
            f"{reference} returned a {type(task).__name__}; a surefoot.compare.Task is needed"
        )
    if not task.name:
        object.__setattr__(task, "name", reference)
    return task


def _only_task(path: str) -> str:
    """The name of the only task in a file, or of the only function that returns one."""
    module = import_file(Path(path), "a task", UsageError)
    own = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, Task)
        or (inspect.isfunction(value) and value.__module__ == module.__name__)
    }
    found = [
        name
        for name, value in own.items()
        if isinstance(value, Task) or _returned_type(value) in (Task, "Task", "compare.Task")
    ] or [name for name in own if name == "task"]
    if len(found) != 1:
        names = [f"{path}:{name}" for name in found or own]
        raise UsageError(
            f"{path} has {len(found)} tasks; give one as file.py:name. A task is a `Task`, or a "
            f"function with the annotation `-> Task`, or called `task`. Received a file with: "
            f"{', '.join(names) or 'no function'}"
        )
    return found[0]


def _returned_type(function: Callable[..., Any]) -> Any:
    return function.__annotations__.get("return")


def leaves(examples: Any) -> list[Any]:
    """The arrays of a nested structure, in order."""
    if isinstance(examples, Mapping):
        return [array for key in sorted(examples) for array in leaves(examples[key])]
    if isinstance(examples, tuple | list):
        return [array for each in examples for array in leaves(each)]
    return [np.asarray(examples)]


def pick(examples: Any, index: Any) -> Any:
    """The chosen examples of every array in a nested structure."""
    if isinstance(examples, Mapping):
        return {key: pick(value, index) for key, value in examples.items()}
    if isinstance(examples, tuple | list):
        return type(examples)(pick(each, index) for each in examples)
    return np.asarray(examples)[index]


def count_examples(examples: Any) -> int:
    """How many examples there are."""
    return len(leaves(examples)[0])


def _check_examples(name: str, examples: object) -> None:
    if not isinstance(examples, tuple) or len(examples) != 2:
        raise UsageError(f"Task.{name} must be a pair (inputs, targets)")
    lengths = [len(array) if array.ndim else 0 for array in leaves(examples)]
    if not lengths or min(lengths) == 0 or len(set(lengths)) > 1:
        raise UsageError(
            f"Task.{name} must hold arrays of the same length along the first axis. "
            f"Received lengths: {lengths}"
        )
