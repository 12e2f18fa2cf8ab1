"""What is said of an error in a task: in the user's terms, with the line of the user's file."""

import re
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import surefoot
from surefoot.compare.errors import UsageError

_OURS = str(Path(surefoot.__file__).parent)
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
# Keras writes its messages in bold.
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def in_one_line(error: Exception, task: str) -> str:
    """The error in one line.

    Args:
        error: As raised by the task, or by what was made of it.
        task: The task's name on the command line; named if no line of the user's file had a part.
    """
    text = " ".join(_STYLE.sub("", str(error)).split())
    if not isinstance(error, UsageError):
        text = f"{type(error).__name__}: {text}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_users(frame.filename)]
    if own:
        return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})"
    file = task.partition(":")[0]
    # Errors of syntax and of a missing name tell the file themselves.
    return text if ":" not in task or Path(file).name in text else f"{text} ({task})"


def full(error: Exception) -> str:
    """The traceback from the user's file on, or else from where the command has left its own."""
    start = _first(error.__traceback__, _is_users) or _first(error.__traceback__, _is_foreign)
    # Keras tries again on an error, so that the same one may be the context of itself.
    chain = error.__cause__ is not None
    text = "".join(traceback.format_exception(type(error), error, start, chain=chain))
    return _STYLE.sub("", text)


def _first(found: TracebackType | None, wanted: Callable[[str], bool]) -> TracebackType | None:
    while found is not None and not wanted(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found


def _is_foreign(file: str) -> bool:
    return not file.startswith(_OURS)


def _is_users(file: str) -> bool:
    return not file.startswith(("<", _OURS, *_INSTALLED))
