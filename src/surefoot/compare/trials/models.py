"""A task's models, and the state of one."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from surefoot.compare.errors import UsageError
from surefoot.compare.trials.data import pick
from surefoot.compare.trials.task import Task


def new_model(task: Task) -> Any:
    """A model of a task, built.

    Raises:
        UsageError: If the task returns something else, or a module of PyTorch on another backend.
    """
    model = task.model()
    if not isinstance(model, keras.Model):
        backend = keras.backend.backend()
        if not is_torch_module(model):
            raise UsageError(
                "Task.model must return a keras.Model, or a torch.nn.Module with --backend torch. "
                f"Received: {type(model).__name__}"
            )
        if backend != "torch":
            raise UsageError(
                "Task.model returns a torch.nn.Module, which needs --backend torch. "
                f"Received: --backend {backend}"
            )
        model = _TorchModel(model)
    if not model.built:
        # As in predictions: for one example, a batch normalization of PyTorch has no statistics.
        model(pick(task.train[0], slice(0, 1)), training=False)
    return model


def is_torch_module(value: Any) -> bool:
    """Whether this is a `torch.nn.Module`, without an import of PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def torch_module(model: Any) -> Any:
    """The module of PyTorch in a model, or `None`."""
    return model.wrapped.module if isinstance(model, _TorchModel) else None


def state(model: Any) -> list[Any]:
    """What a run may change in a model: variables, and buffers of modules of PyTorch.

    Keras does not count the buffers, such as the averages of a `torch.nn.BatchNorm1d`.
    """
    buffers = model.buffers() if keras.backend.backend() == "torch" else ()
    return [*model.variables, *buffers]


def numbers(tensor: Any) -> np.ndarray:
    """The numbers of a variable or tensor."""
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def assign(variables: list[Any], values: list[Any]) -> None:
    """Set a state to the numbers of another."""
    for variable, value in zip(variables, values, strict=True):
        # A copy, because a backend may take over the memory and write into it.
        if hasattr(variable, "assign"):
            variable.assign(np.array(value))
        else:
            variable.copy_(keras.ops.convert_to_tensor(np.array(value)))


def compile_model(model: Any, task: Task, optimizer: Any) -> None:
    """Compile a model of a task for an optimizer."""
    # Whoever gives weights to validate with wants the metric weighted, too.
    kind = "weighted_metrics" if len(task.validation) > 2 else "metrics"
    model.compile(optimizer=optimizer, loss=task.loss, **{kind: _metrics(task.metric)})


def keywords(examples: tuple[Any, ...]) -> dict[str, Any]:
    """Examples as the arguments of Keras's methods."""
    return dict(zip(("x", "y", "sample_weight"), examples, strict=False))


def _metrics(metric: Any) -> Any:
    """A new metric for a model, in the form that `compile` takes."""
    if metric is None:
        return None
    if isinstance(metric, Mapping):
        return {output: _metrics(each) for output, each in metric.items()}
    if isinstance(metric, keras.metrics.Metric):
        try:
            return [type(metric).from_config(metric.get_config())]
        except TypeError as error:
            raise UsageError(
                f"Task.metric cannot be made anew for each run, since its `get_config` lacks "
                f"arguments; give a function that returns a new one. Received: "
                f"{type(metric).__name__}, {error}"
            ) from None
    return [metric() if callable(metric) and _needs_nothing(metric) else metric]


def _needs_nothing(function: Callable[..., Any]) -> bool:
    """Whether it can be called without arguments: it returns a metric, and is not one itself."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return False
    return True


class _TorchModel(keras.Model):
    """A module of PyTorch as a model of Keras; several inputs become several arguments."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.wrapped = keras.layers.TorchModuleWrapper(module)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        # To Keras's wrapper, `None` means training.
        training = bool(training)
        if isinstance(inputs, Mapping):
            return self.wrapped(**inputs, training=training)
        arguments = inputs if isinstance(inputs, tuple | list) else (inputs,)
        return self.wrapped(*arguments, training=training)
