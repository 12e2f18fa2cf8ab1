"""What is looked at before the first trial: the task's models, and its data."""

from typing import Any

import keras
import numpy as np

from surefoot.compare.errors import UsageError
from surefoot.compare.trials.data import leaves, pick
from surefoot.compare.trials.models import is_torch_module, new_model, numbers, state
from surefoot.compare.trials.task import Task

# So many examples with NaN or infinity are given to the model.
_TRIED = 1024


def check_task(task: Task) -> Any:
    """Refuse a task whose runs would depend on earlier ones, or cannot but fail.

    Returns:
        A model of the task, with the weights of the seed 0.

    Raises:
        UsageError: If two models share a variable, or differ for one seed; if the loss is one of
            PyTorch's; or if the data has NaN or infinity as a target or weight, or as an input
            that the model does not replace.
    """
    if is_torch_module(task.loss):
        raise UsageError(
            "Task.loss must be a loss of Keras or a function of (targets, outputs); those of "
            "PyTorch take the outputs first. `keras.losses.SparseCategoricalCrossentropy("
            "from_logits=True)` is torch's CrossEntropyLoss, and `BinaryCrossentropy(from_logits="
            f"True)` its BCEWithLogitsLoss. Received: {type(task.loss).__name__}"
        )
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        models.append(new_model(task))
    _check_new(*map(state, models))
    for name in ("train", "validation"):
        _check_finite(f"Task.{name}", getattr(task, name), models[0])
    return models[0]


def _check_new(first: list[Any], second: list[Any]) -> None:
    # A module of PyTorch that is returned twice is wrapped in new variables of the same values.
    kept = [[getattr(variable, "value", variable) for variable in each] for each in (first, second)]
    ids = set(map(id, kept[0]))
    shared = [_path(v) for v, value in zip(second, kept[1], strict=True) if id(value) in ids]
    if shared:
        raise UsageError(
            f"Task.model must return a new model at each call; two calls shared {len(shared)} of "
            f"{len(second)} variables ({_listed(shared)}). A run would start from what the one "
            "before has trained. Create every layer inside of the function; give a new layer "
            "pretrained weights there, with `load_weights` or `set_weights`."
        )
    pairs = zip(first, second, strict=False)
    differ = [_path(b) for a, b in pairs if not np.array_equal(numbers(a), numbers(b))]
    if differ or len(first) != len(second):
        raise UsageError(
            "Task.model must return the same weights for the same seed, which "
            "`keras.utils.set_random_seed` sets before each call. Received other weights from the "
            f"second: {_listed(differ) or 'another number of variables'}"
        )


def _check_finite(name: str, examples: tuple[Any, ...], model: Any) -> None:
    inputs, *others = examples
    for what, values in zip(("targets", "weights"), others, strict=False):
        found = _not_finite(values)
        if found.size:
            raise UsageError(
                f"{name} has NaN or infinity in the {what} of {found.size} examples. Received: one "
                f"in example {found[0]}, counted from 0"
            )
    # Of many, these will do; an example may hold what the model replaces, and another one not.
    found = _not_finite(inputs)[:_TRIED]
    if not found.size:
        return
    outputs = [numbers(x) for x in keras.tree.flatten(model(pick(inputs, found), training=False))]
    kept = found[_not_finite(outputs)]
    if kept.size:
        raise UsageError(
            f"{name} has NaN or infinity in its inputs, and so have the model's outputs. Received: "
            f"one in example {kept[0]}, counted from 0. Replace it, or let the model's first layer "
            "do so"
        )


def _not_finite(examples: Any) -> np.ndarray:
    """Which examples have NaN or infinity."""
    floats = [array for array in leaves(examples) if array.dtype.kind == "f"]
    rows = [(~np.isfinite(array)).reshape(len(array), -1).any(axis=1) for array in floats]
    return np.flatnonzero(np.any(rows, axis=0)) if rows else np.array([], int)


def _path(variable: Any) -> str:
    return getattr(variable, "path", "a buffer")


def _listed(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")
