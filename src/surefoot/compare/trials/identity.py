"""What of a task is recorded beside its data, so that its trials are never mixed with another's.

Names and arguments say what has changed. They do not show everything: not the code of a function,
nor weights that are loaded. So there are numbers, too: loss and result of a model before training.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import keras

from surefoot.compare.trials.data import pick
from surefoot.compare.trials.models import compile_model, keywords, torch_module
from surefoot.compare.trials.task import Task


def identity(task: Task, model: Any) -> dict[str, Any]:
    """What is trained, as plain values.

    Args:
        task: The task.
        model: One of its models, with the weights of the seed 0; it is compiled.
    """
    weights = task.class_weight
    return {
        "model": _of_model(model),
        "loss": _text(task.loss),
        "class_weight": weights and ", ".join(f"{k}: {v:g}" for k, v in sorted(weights.items())),
        "before_training": _before_training(task, model),
    }


def _of_model(model: Any) -> str:
    module = torch_module(model)
    if module is not None:
        name, parts = type(module).__name__, [str(module)]
    else:
        name = type(model).__name__
        parts = [_text(layer) for layer in model._flatten_layers() if not hasattr(layer, "layers")]
    trainable = sum(math.prod(weight.shape) for weight in model.trainable_variables)
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return (
        f"{name}, {model.count_params():,} parameters, {trainable:,} of them trainable, "
        f"SHA-256 {digest[:12]}"
    )


def _before_training(task: Task, model: Any) -> list[float | None]:
    compile_model(model, task, "sgd")
    examples = pick(task.validation, slice(0, task.batch_size))
    logs = model.test_on_batch(**keywords(examples), return_dict=True)
    values = map(float, logs.values())
    return [value if math.isfinite(value) else None for value in values]


def _text(value: Any) -> str:
    """A layer or loss, or several, with their arguments."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_text(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if not isinstance(value, keras.Layer | keras.losses.Loss):
        return str(getattr(value, "__qualname__", type(value).__name__))
    try:
        config = value.get_config()
    except (NotImplementedError, TypeError, ValueError):
        # Of a class whose arguments cannot be written down.
        config = {}
    arguments = [
        f"{name}={json.dumps(_stable(each, name), sort_keys=True, default=_kind)}"
        for name, each in config.items()
        if each is not None
    ]
    return f"{type(value).__name__}({', '.join(arguments)})"


def _stable(value: Any, name: str) -> Any:
    """An argument without what differs from one process to the next."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__lambda__":
            return "lambda"  # its code tells the line where it stands
        return {str(key): _stable(each, str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_stable(each, "") for each in value]
    # Keras numbers the names that it gives.
    return re.sub(r"_\d+$", "", value) if name == "name" and isinstance(value, str) else value


def _kind(value: object) -> str:
    return type(value).__name__
