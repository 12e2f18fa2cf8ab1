"""What is known of the value that is compared: its bounds, and its noise."""

import math
import re
from typing import Any

import keras
import numpy as np

from surefoot.compare.trials.data import count_examples, leaves
from surefoot.compare.trials.models import numbers
from surefoot.compare.trials.task import Task

_SHARES = re.compile("accuracy|auc|precision|recall|f1|fbeta|iou|sensitivity|specificity")
_DISTANCES = re.compile("error|crossentropy|hinge|huber|logcosh|^(mse|mae|mape|msle)$")
_BATCH = 1024


def bounds(task: Task) -> tuple[float | None, float | None]:
    """Between which values the compared one lies, as far as its name tells."""
    name = _name(task.loss if task.metric is None else task.metric)
    if task.metric is not None and (_SHARES.search(name) or name == "acc"):
        return 0.0, 1.0
    return (0.0 if _DISTANCES.search(name) else None), None


def validation_noise(task: Task, model: Any, result: float) -> float | None:
    """The standard error of a result that the number of validation examples alone leaves.

    Args:
        task: The task.
        model: The trained model.
        result: The compared value.

    Returns:
        `None` if it is not known: for metrics other than an accuracy of one label per example, for
        losses that are not Keras's or of several outputs, and with weights of the examples.
    """
    examples: tuple[Any, ...] = task.validation
    if len(examples) > 2:
        return None
    inputs, targets = examples
    count = count_examples(inputs)
    if task.metric is not None:
        if not _is_accuracy(task.metric, targets, count) or not 0 <= result <= 1:
            return None
        # All right or all wrong is no certainty: it counts as one example that is otherwise.
        share = min(max(result, 1 / count), 1 - 1 / count)
        return math.sqrt(share * (1 - share) / count)
    loss = keras.losses.get(task.loss) if isinstance(task.loss, str) else task.loss
    each = loss.call if isinstance(loss, keras.losses.Loss) else loss
    if not getattr(each, "__module__", "").startswith("keras.") or len(leaves(targets)) > 1:
        return None
    outputs = model.predict(inputs, batch_size=_BATCH, verbose=0)
    # As Keras does it: one target per example stands beside outputs of one column.
    if np.ndim(outputs) == np.ndim(targets) + 1 and np.shape(outputs)[-1] == 1:
        targets = np.expand_dims(targets, -1)
    outputs = keras.ops.convert_to_tensor(outputs)
    losses = numbers(each(keras.ops.convert_to_tensor(targets, outputs.dtype), outputs))
    by_example = losses.reshape(count, -1).mean(axis=1)
    return float(by_example.std(ddof=1) / math.sqrt(count)) if count > 1 else None


def _is_accuracy(metric: object, targets: Any, count: int) -> bool:
    name = _name(metric)
    one_each = all(label.size == count for label in leaves(targets))
    is_share = name == "acc" or name.endswith("accuracy")
    return is_share and (one_each or name.startswith("categorical"))


def _name(value: object) -> str:
    """The name of a metric or loss, without case and underscores."""
    if not isinstance(value, str):
        is_object = isinstance(value, keras.metrics.Metric | keras.losses.Loss)
        value = type(value).__name__ if is_object else getattr(value, "__name__", "")
    return str(value).replace("_", "").lower()
