"""What is known of the value that is compared: its bounds, and what it is a mean of."""

import re

import keras

from surefoot.compare.trials.task import Task, count_examples, leaves

_SHARES = re.compile("accuracy|auc|precision|recall|f1|fbeta|iou|sensitivity|specificity")
_DISTANCES = re.compile("error|crossentropy|hinge|huber|logcosh|^(mse|mae|mape|msle)$")


def bounds(task: Task) -> tuple[float | None, float | None]:
    """Between which values the compared one lies, as far as its name tells."""
    name = _name(task.loss if task.metric is None else task.metric)
    if task.metric is not None and (_SHARES.search(name) or name == "acc"):
        return 0.0, 1.0
    return (0.0 if _DISTANCES.search(name) else None), None


def label_count(task: Task) -> int | None:
    """How many labels an accuracy is the share of, if it is one and they are independent."""
    name = "" if task.metric is None else _name(task.metric)
    count = count_examples(task.validation)
    one_each = all(label.size == count for label in leaves(task.validation[1]))
    is_share = name == "acc" or name.endswith("accuracy")
    return count if is_share and (one_each or name.startswith("categorical")) else None


def _name(value: object) -> str:
    """The name of a metric or loss, without case and underscores."""
    if not isinstance(value, str):
        is_object = isinstance(value, keras.metrics.Metric | keras.losses.Loss)
        value = type(value).__name__ if is_object else getattr(value, "__name__", "")
    return str(value).replace("_", "").lower()
