"""What is looked at before the first trial: the task's models, and its data."""

from typing import Any

import keras
import numpy as np

from surefoot.compare.errors import UsageError
from surefoot.compare.trials.task import Task, leaves, pick


def check_task(task: Task) -> None:
    """Refuse a task whose runs would depend on earlier ones, or cannot but fail.

    Raises:
        UsageError: If two models share a variable, or differ for one seed; or if the data has NaN
            as a target, or as an input that the model does not replace.
    """
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        models.append(new_model(task))
    _check_new(*(model.variables for model in models))
    for name in ("train", "validation"):
        _check_finite(f"Task.{name}", getattr(task, name), models[0])


def new_model(task: Task) -> Any:
    """A model of a task, built."""
    model = task.model()
    if not model.built:
        model(pick(task.train[0], slice(0, 1)))
    return model


def numbers(tensor: Any) -> np.ndarray:
    """The numbers of a variable or tensor."""
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def _check_new(first: list[Any], second: list[Any]) -> None:
    ids = {id(variable) for variable in first}
    shared = [variable.path for variable in second if id(variable) in ids]
    if shared:
        raise UsageError(
            f"Task.model must return a new model at each call; two calls shared {len(shared)} of "
            f"{len(second)} variables ({_listed(shared)}). A run would start from what the one "
            "before has trained. Create every layer inside of the function; give a new layer "
            "pretrained weights there, with `load_weights` or `set_weights`."
        )
    pairs = zip(first, second, strict=False)
    differ = [b.path for a, b in pairs if not np.array_equal(numbers(a), numbers(b))]
    if differ or len(first) != len(second):
        raise UsageError(
            "Task.model must return the same weights for the same seed, which "
            "`keras.utils.set_random_seed` sets before each call. Received other weights from the "
            f"second: {_listed(differ) or 'another number of variables'}"
        )


def _check_finite(name: str, examples: tuple[Any, Any], model: Any) -> None:
    inputs, targets = examples
    found = _with_nan(targets)
    if found.size:
        raise UsageError(
            f"{name} has NaN in the targets of {found.size} examples. Received: NaN in example "
            f"{found[0]}, counted from 0"
        )
    found = _with_nan(inputs)
    if not found.size:
        return
    outputs = keras.tree.flatten(model(pick(inputs, found[:1])))
    if not all(np.isfinite(numbers(output)).all() for output in outputs):
        raise UsageError(
            f"{name} has NaN in the inputs of {found.size} examples, and the model gives NaN for "
            f"them. Received: NaN in example {found[0]}, counted from 0. Replace them, or let the "
            "model's first layer do so."
        )


def _with_nan(examples: Any) -> np.ndarray:
    """Which examples have NaN."""
    floats = [array for array in leaves(examples) if array.dtype.kind == "f"]
    rows = [np.isnan(array).reshape(len(array), -1).any(axis=1) for array in floats]
    return np.flatnonzero(np.any(rows, axis=0)) if rows else np.array([], int)


def _listed(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
