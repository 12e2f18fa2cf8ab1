"""Whether all workers of a training have the same optimizer, asked before the first step.

Workers that differ do not stop: each follows its own rule with everyone's gradients, and the
weights drift apart unseen; or they wait for each other until a timeout, without the cause.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def require_agreement(
    optimizer: Any, gather: Callable[[str], Iterable[str]], **others: object
) -> None:
    """Compare the workers' optimizers; every worker has to call this.

    Args:
        optimizer: This worker's. It need not be built.
        gather: Given this worker's text, returns the texts of all workers in the order of their
            ranks. It is called once. How long to wait for a worker that does not answer is for
            the means of communication behind it to decide.
        **others: Further values that must be the same on all workers, by name, like the step at
            which a checkpoint ends.

    Raises:
        ValueError: On all workers, if a worker's class of optimizer, one of its arguments or one
            of ``others`` differs from worker 0's.

    Example:
        >>> import surefoot
        >>> from surefoot.agreement import require_agreement
        >>> mine = surefoot.Nadam(0.1)
        >>> require_agreement(mine, lambda text: [text, text.replace("0.1", "0.2")])
        Traceback (most recent call last):
            ...
        ValueError: Workers 0 and 1 differ in optimizer.learning_rate: 0.1 and 0.2. Start all
        workers anew with the same arguments, files and versions.
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
                f"Workers 0 and {rank} differ in {differing}. Start all workers anew with the "
                "same arguments, files and versions."
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The leaves with their whole paths, so that an inner optimizer's argument has a name."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _named(value: object) -> str:
    # A representation may hold an address in memory, which differs between processes.
    return getattr(value, "__qualname__", type(value).__qualname__)


def _shown(fact: Mapping[str, Any], name: str) -> str:
    return repr(fact[name]) if name in fact else "nothing"
