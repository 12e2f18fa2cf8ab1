"""What a comparison trains: a model, its data, and the value to compare."""

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.arguments.importing import import_file, import_object
from surefoot.compare.errors import UsageError
from surefoot.compare.trials.data import count_examples, leaves, read_examples

_BUILT_IN = {
    "digits": "surefoot.compare.trials.tasks.digits:mlp",
    "digits-cnn": "surefoot.compare.trials.tasks.digits:cnn",
    "text": "surefoot.compare.trials.tasks.text:transformer",
    "text-pre-norm": "surefoot.compare.trials.tasks.text:transformer_normalizing_first",
    "diabetes": "surefoot.compare.trials.tasks.diabetes:regression",
}

_BATCH_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model, its data, and the value to compare, for `surefoot compare`.

    Args:
        model: A function without arguments that returns a new Keras model, or a new
            `torch.nn.Module` on the backend torch. It need not be compiled; its optimizer, loss and
            metrics are ignored.
        train: `(inputs, targets)` or `(inputs, targets, sample_weights)` to train on. Each is an
            array, tensor, or frame of pandas or Polars, or a tuple, list or dict of these, with the
            examples along the first axis. Or an object that gives batches of such tuples: a
            `tf.data.Dataset`, a `torch.utils.data.DataLoader`, a `keras.utils.PyDataset`, a list.
            One pass over it is read into memory; the seed then decides the order.
        validation: Data of any of these forms, on which every result is measured. With
            `sample_weights`, loss and metric are weighted.
        loss: As `keras.Model.compile` takes it.
        metric: The value to compare: a name or function as `keras.Model.compile` takes it, a metric
            object, of which each run gets a new one, or a function that returns a new one. For a
            model with several outputs, a dict with the name of one of them and its metric. Default:
            the validation loss.
        higher_is_better: Whether a larger value of `metric` is better. Required with a `metric`.
        name: The name in the report. Default: the path on the command line.
        description: One sentence for the report.
        batch_size: Examples per step. Default: those of the first batch in `train` if it gives
            batches, and 32 otherwise.
        steps: Default length of a run, in optimizer steps; `--steps` overrides it.
        learning_rates: Default of `--learning-rates`.
        optimizers: Default of `--optimizers`.
        near_best: A learning rate is good if its result is within this distance of the overall
            best. Default: 0.01 for a metric where higher is better, and 5 % of the best
            value otherwise.
        target: The value for which the time to reach it is measured. Default: the bound given by
            `near_best`.
        class_weight: As `keras.Model.fit` takes it.
        callbacks: A function without arguments that returns new callbacks of Keras for a run. To
            them, an epoch is the part of a run from one of its evaluations to the next, and the
            logs of its end have `loss`, `val_loss` and the metric. If one stops the training, the
            result is what the model has reached. The learning rate is the comparison's to set.
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
    train: Any
    validation: Any
    loss: Any
    metric: Any = None
    higher_is_better: bool | None = None
    name: str = ""
    description: str = ""
    batch_size: int | None = None
    steps: int = 400
    learning_rates: str = "1e-4:1e-1:7"
    optimizers: tuple[str, ...] = ("adam", "adamw", "radam", "nadam", "ranger")
    near_best: float | None = None
    target: float | None = None
    class_weight: Mapping[int, float] | None = None
    callbacks: Callable[[], Sequence[Any]] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model", "callbacks"):
            value = getattr(self, name)
            if not callable(value) and not (name == "callbacks" and value is None):
                raise UsageError(
                    f"Task.{name} must be a function that returns a new model or new callbacks for "
                    f"each run. Received: {name}={value!r}"
                )
        self._check_metric()
        self._read_data()
        for name in ("batch_size", "steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"Task.{name} must be a positive integer. Received: {value!r}")
        count = count_examples(self.train)
        assert self.batch_size is not None
        if count < self.batch_size:
            raise UsageError(
                f"Task.batch_size={self.batch_size} is more than the {count} training examples"
            )
        if self.class_weight is not None:
            self._check_class_weight(dict(self.class_weight))

    def _check_class_weight(self, weights: dict[Any, float]) -> None:
        if len(self.train) > 2 or len(leaves(self.train[1])) > 1:
            raise UsageError(
                "Task.class_weight is for one output without sample weights; with these, multiply "
                f"the weights yourself. Received: class_weight={weights}"
            )
        (targets,) = leaves(self.train[1])
        # As Keras does: of several columns the largest is the class.
        is_one_hot = targets.ndim > 1 and targets.shape[-1] > 1
        classes = np.unique(targets.argmax(axis=-1) if is_one_hot else targets).tolist()
        unknown = sorted(map(repr, weights.keys() - set(classes)))
        if unknown:
            raise UsageError(
                f"Task.class_weight names classes that no target has: {', '.join(unknown)}; there "
                f"are {', '.join(map(repr, classes[:10]))}{', ...' * (len(classes) > 10)}"
            )

    def _check_metric(self) -> None:
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
        if isinstance(self.metric, list | tuple) or (
            isinstance(self.metric, Mapping) and len(self.metric) != 1
        ):
            raise UsageError(
                "Task.metric must be one metric, or a dict with one output's name and its metric. "
                f"Received: {self.metric!r}"
            )

    def _read_data(self) -> None:
        for name in ("train", "validation"):
            examples, batch_size = read_examples(f"Task.{name}", getattr(self, name))
            object.__setattr__(self, name, examples)
            if name == "train" and self.batch_size is None:
                object.__setattr__(self, "batch_size", batch_size or _BATCH_SIZE)

    @property
    def metric_name(self) -> str:
        """The name of the compared value in the report."""
        if self.metric is None:
            return "validation loss"
        if isinstance(self.metric, Mapping):
            ((output, metric),) = self.metric.items()
            return f"validation {_name(metric)} of {output}"
        return f"validation {_name(self.metric)}"

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


def _name(metric: Any) -> str:
    if isinstance(metric, str):
        return metric
    names = (getattr(metric, attribute, None) for attribute in ("name", "__name__"))
    name = str(next((name for name in names if name), "metric"))
    # Keras numbers the objects of a class, of which a notebook may make several.
    plain = name.rstrip("0123456789").rstrip("_")
    return plain if plain.replace("_", "") == type(metric).__name__.lower() else name
