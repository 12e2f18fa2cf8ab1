"""Compares optimizers over learning rates and seeds; the subcommand `surefoot compare`.

To compare optimizers on your own model, write a function that returns a `Task`.
"""

from surefoot.compare.errors import UsageError
from surefoot.compare.trials.task import Task

__all__ = ["Task", "UsageError"]
