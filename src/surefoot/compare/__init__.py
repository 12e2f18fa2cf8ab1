"""Which optimizer, at which learning rate, and how sure is that? The job of `surefoot compare`.

`Task` is what a user writes to bring a model of their own.
"""

from surefoot.compare.errors import UsageError
from surefoot.compare.trials.task import Task

__all__ = ["Task", "UsageError"]
