"""The tasks of `surefoot compare`, cut and varied for the experiments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np

from surefoot.compare import Task
from surefoot.compare.trials.tasks import digits, text


def post_norm_small() -> Task:
    """The task `text` with half the batch, so that many trials fit into an hour."""
    return _halved(text.transformer(), "text, 8 sequences a batch")


def pre_norm_small() -> Task:
    """The task `text-pre-norm` with half the batch."""
    return _halved(text.transformer_normalizing_first(), "text-pre-norm, 8 sequences a batch")


def _halved(task: Task, name: str) -> Task:
    inputs, targets = task.validation
    return replace(task, name=name, batch_size=8, validation=(inputs[::2], targets[::2]))


def guessing_loss(task: Task) -> float:
    """The loss of having learned how often each character occurs and nothing else."""
    counts = np.bincount(np.ravel(task.train[1]))
    log_share = np.log(counts / counts.sum(), where=counts > 0, out=np.full(len(counts), -np.inf))
    # A character that training has never seen is left out: any share of it would be made up.
    found = log_share[np.ravel(task.validation[1])]
    return float(-found[np.isfinite(found)].mean())


def digits_bfloat16() -> Task:
    """The task `digits` with all variables and all computation in bfloat16."""
    task = digits.mlp()

    def model() -> Any:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("bfloat16")
        try:
            return task.model()
        finally:
            keras.config.set_dtype_policy(before)

    return replace(task, name="digits in bfloat16", model=model)
