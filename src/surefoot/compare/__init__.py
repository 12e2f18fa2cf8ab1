"""Compares optimizers over learning rates and seeds; the subcommand `surefoot compare`.

To compare optimizers on your own model, write a function that returns a `Task` for the command, or
give the `Task` to `surefoot.compare(task)`, which is `surefoot.compare.compare(task)`.
"""

import inspect
import sys
from types import ModuleType
from typing import Any

from surefoot.compare.api import compare
from surefoot.compare.errors import UsageError
from surefoot.compare.study import Study
from surefoot.compare.trials.task import Task

__all__ = ["Study", "Task", "UsageError", "compare"]


# What editors and notebooks show of the call.
__signature__ = inspect.signature(compare)


class _Callable(ModuleType):
    """A module that is called as the function of its name."""

    def __call__(self, *arguments: Any, **options: Any) -> Study:
        return compare(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
