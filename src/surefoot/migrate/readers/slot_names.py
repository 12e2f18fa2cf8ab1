"""Finds the slot and the variable of state that is stored under a name.

An OptimizerV2 wrote `RectifiedAdam/hidden/kernel/m`, tf.keras 2.11 and later
`Adam/m/hidden/kernel`; both also wrote the step count and a few scalars.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable

from surefoot.migrate.errors import MigrationError
from surefoot.migrate.readers.description import Array, SavedLayer

STEP_NAMES = ("iter", "iteration")
SCALAR_NAMES = ("momentum_cache",)


@dataclasses.dataclass
class NamedState:
    """State by slot and weight."""

    iterations: int | None = None
    slots: dict[str, dict[str, Array]] = dataclasses.field(default_factory=dict)
    scalars: dict[str, float] = dataclasses.field(default_factory=dict)


def sort_named_state(
    named: Iterable[tuple[str, Array]],
    layers: Iterable[SavedLayer],
    legacy: bool,
    source: str,
) -> NamedState:
    """Sorts an optimizer's arrays by their names.

    Args:
        named: Pairs of name and array, in the file's order.
        layers: The model's layers, to whose weights the names refer.
        legacy: Whether the slot is the last part of a name (OptimizerV2), not before the variable.
        source: The file, for errors.

    Returns:
        The state by slot and weight key.

    Raises:
        MigrationError: If a name belongs to no weight, or a shape differs from its weight's.
    """
    state = NamedState()
    keys_by_name: dict[str, list[str]] = defaultdict(list)
    shapes = {}
    for layer in layers:
        for weight in layer.weights:
            keys_by_name[weight.name].append(weight.key)
            shapes[weight.key] = weight.value.shape
    taken: dict[tuple[str, str], int] = defaultdict(int)
    for name, value in named:
        last = name.rsplit("/", 1)[-1]
        if last in STEP_NAMES and value.shape == ():
            state.iterations = int(value)
        elif last in SCALAR_NAMES and value.shape == ():
            state.scalars[last] = float(value)
        else:
            slot, variable = _split(name, keys_by_name, legacy, source)
            # Layers of nested models may have the same name; then the order decides.
            position = taken[slot, variable]
            taken[slot, variable] += 1
            if position >= len(keys_by_name[variable]):
                raise MigrationError(f"{source}: the optimizer has {name!r} more than once.")
            key = keys_by_name[variable][position]
            if value.shape not in (shapes[key], ()):  # one number is the second moment of NovoGrad
                raise MigrationError(
                    f"{source}: the shape of the optimizer's {name!r} differs from its weight's. "
                    f"Received: {value.shape} for {shapes[key]}."
                )
            state.slots.setdefault(slot, {})[key] = value
    return state


def _split(name: str, known: dict[str, list[str]], legacy: bool, source: str) -> tuple[str, str]:
    parts = name.split("/")
    # The longest matching name is used: `encoder/dense/kernel` before `dense/kernel`.
    for start in range(1, len(parts)):
        variable = "/".join(parts[start:-1] if legacy else parts[start:])
        if variable in known:
            return (parts[-1] if legacy else parts[start - 1]), variable
    raise MigrationError(
        f"{source}: the optimizer's {name!r} belongs to none of the model's weights: "
        f"{sorted(known)}."
    )
