"""Many small tensors as one, for plain operations on a device.

There, the launch of an operation takes as long as the work on a million numbers: operation by
operation and tensor by tensor, a step of a usual model would be thousands of launches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from surefoot.rule.rounding import AT_RANDOM
from surefoot.variables.tracked import Assignment
from surefoot.variables.variable import value_of

MOST_NUMBERS = 1 << 22
"""Numbers in a pack, whose tensors exist a second time while it is updated."""

Item = TypeVar("Item")
Row = Sequence[torch.Tensor | None]


def packed(
    items: Iterable[Item], row_of: Callable[[Item], Row], key_of: Callable[[Item], Any]
) -> Iterator[list[Item]]:
    """Put items together whose tensors may be treated as parts of one.

    Args:
        items: What to pack.
        row_of: The tensors of an item, all of one shape.
        key_of: What items of one pack have in common, besides the devices and dtypes of their
            tensors.
    """
    packs: dict[Any, list[Item]] = {}
    filled: dict[Any, int] = {}
    seen: set[int] = set()
    for item in items:
        whole = row_of(item)
        row = [t for t in whole if t is not None]
        size = row[0].numel()
        storages = _storages(row)
        # Where tensors share memory it matters which is read and written first.
        if row[0].device.type == "cpu" or size >= MOST_NUMBERS or storages is None:
            yield [item]
            continue
        if storages & seen:
            yield from packs.values()
            packs, filled, seen = {}, {}, set()
        seen |= storages
        kinds = tuple(None if t is None else (t.device, t.dtype) for t in whole)
        key = kinds, key_of(item)
        if filled.get(key, 0) + size > MOST_NUMBERS:
            yield packs.pop(key)
            filled[key] = 0
        packs.setdefault(key, []).append(item)
        filled[key] = filled.get(key, 0) + size
    yield from packs.values()


def packed_assignments(assignments: Iterable[Assignment]) -> Iterator[list[Assignment]]:
    """Assignments together that are the same function of their sources."""
    return packed(assignments, _tensors_of, key_of=_places_of)


def _tensors_of(assignment: Assignment) -> list[torch.Tensor | None]:
    """The tensors of an assignment, each once."""
    known = {id(v): v for v in (*assignment.targets, *assignment.sources) if v is not None}
    return [value_of(v) for v in known.values()]


def _places_of(assignment: Assignment) -> Any:
    """Which targets are sources, which of them are None; and the forms of the targets.

    Random bits depend on places in a variable, which a pack would not tell: there the key, too.
    """
    targets, sources, forms, key = assignment
    first = {id(v): i for i, v in reversed(list(enumerate((*targets, *sources))))}
    places = tuple(None if v is None else first[id(v)] for v in sources)
    return len(targets), places, forms, key if AT_RANDOM in forms else None


def _storages(row: Sequence[torch.Tensor]) -> set[int] | None:
    """The memory of a row's tensors; None if two share it, or one has none of its own."""
    try:
        found = {t.untyped_storage()._cdata for t in row}
    except (NotImplementedError, RuntimeError):  # sparse, or wrapped by `torch.func`
        return None
    return found if len(found) == len(row) else None


def gathered(column: Row) -> torch.Tensor | None:
    """Tensors one behind the other, in new memory unless there is but one."""
    tensors = [t for t in column if t is not None]
    if not tensors or len(tensors) == 1:
        return tensors[0] if tensors else None
    return torch.cat([t.reshape(-1) for t in tensors])


def scatter(column: Row, values: torch.Tensor | None) -> None:
    """Write what is like `gathered` to the tensors."""
    tensors = [t for t in column if t is not None]
    if not tensors or values is None:
        return
    if len(tensors) == 1:
        tensors[0].copy_(values)
        return
    parts = values.split([t.numel() for t in tensors])
    torch._foreach_copy_(tensors, [p.view(t.shape) for p, t in zip(parts, tensors, strict=True)])
