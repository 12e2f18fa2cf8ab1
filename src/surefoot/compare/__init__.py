"""Compares optimizers over learning rates and seeds; the subcommand `surefoot compare`.

To compare optimizers on your own model, write a function that returns a `Task` for the command, or
give the `Task` to `compare`.
"""

from surefoot.compare.api import compare
from surefoot.compare.errors import UsageError
from surefoot.compare.study import Study
from surefoot.compare.trials.task import Task

__all__ = ["Study", "Task", "UsageError", "compare"]
