"""Checks before the first step that all workers of a training have the same optimizer.

Workers that differ do not stop by themselves. Either each applies its own update rule to the
shared gradients, and the weights diverge unnoticed, or the workers wait for each other until a
timeout that does not name the cause.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def require_agreement(
    optimizer: Any, gather: Callable[[str], Iterable[str]], **others: object
) -> None:
    """Compare the workers' optimizers. Every worker must call this function.

    Args:
        optimizer: This worker's optimizer. It need not be built.
        gather: A function that takes this worker's string and returns the strings of all
            workers in the order of their ranks. It is called once, and decides how long to
            wait for a worker that does not answer.
        **others: Further values, by name, that must be the same on all workers, such as the
            step of the checkpoint to resume from.

    Raises:
        ValueError: On all workers, if the optimizer class, an argument or one of ``others``
            differs between a worker and worker 0.

    Example:
        >>> import surefoot
        >>> from surefoot.agreement import require_agreement
        >>> mine = surefoot.Nadam(0.1)
        >>> require_agreement(mine, lambda text: [text, text.replace("0.1", "0.2")])
        Traceback (most recent call last):
            ...
        ValueError: Workers 0 and 1 differ in optimizer.learning_rate: 0.1 and 0.2. Restart
        all workers with the same arguments, files and versions.
    """
    mine = {**others, "optimizer": {"class": type(optimizer).__name__, **optimizer.get_config()}}
    facts = [json.loads(text) for text in gather(json.dumps(dict(_flat(mine)), default=_named))]
    for rank, fact in enumerate(facts):
        names = [*facts[0], *(name for name in fact if name not in facts[0])]
        differing = "; ".join(
            f"{name}: {_shown(facts[0], name)} and {_shown(fact, name)}"
            for name in names
            if _shown(facts[0], name) != _shown(fact, name)
        )
        if differing:
            raise ValueError(
                f"Workers 0 and {rank} differ in {differing}. Restart all workers with the "
                "same arguments, files and versions."
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The values of a nested dictionary by their full paths, such as ``optimizer.name``."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _named(value: object) -> str:
    # A `repr` may contain a memory address, which differs between processes.
    return getattr(value, "__qualname__", type(value).__qualname__)


def _shown(fact: Mapping[str, Any], name: str) -> str:
    return repr(fact[name]) if name in fact else "nothing"
