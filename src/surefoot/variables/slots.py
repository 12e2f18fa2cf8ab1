"""Which variable of the optimizer belongs to which variable of the model."""

from __future__ import annotations

import re
from typing import Any

from surefoot.variables.variable import identity, variable_path

_ORIGINAL_SLOTS = ("slow", "m", "v", "vhat")


def _slot_order(slot_name: str) -> int:
    known = slot_name in _ORIGINAL_SLOTS
    return _ORIGINAL_SLOTS.index(slot_name) if known else len(_ORIGINAL_SLOTS)


class SlotRegistry:
    """Every variable of an optimizer under a name that survives a new process.

    Slots are named after the slot and the end of the path of their model
    variable: its layer's name and its own. What stands before depends on who
    built the layer first, automatic numbers (``dense_3``) on how many layers
    the process has made; both differ between the program that saves and the
    one that loads. Variables that are then called the same are counted in the
    order of building.
    """

    def __init__(self) -> None:
        self.singles: dict[str, Any] = {}
        self.added: dict[str, Any] = {}
        self.late: dict[str, Any] = {}
        self._names: dict[int | str, str] = {}
        self._slots: dict[int | str, dict[str, Any]] = {}
        self._counts: dict[str, int] = {}
        self._keep_alive: list[Any] = []

    def _register(self, reference: Any) -> int | str:
        key = identity(reference)
        if key not in self._names:
            parts = variable_path(reference).split("/")[-2:]
            base = "/".join(re.sub(r"_\d+$", "", part) for part in parts)
            count = self._counts.get(base, 0)
            self._counts[base] = count + 1
            self._names[key] = base if count == 0 else f"{base}#{count}"
            self._slots[key] = {}
            self._keep_alive.append(reference)  # its id must not be given away
        return key

    def variable_name(self, reference: Any, slot_name: str) -> str:
        """The Keras name of a slot variable."""
        path = variable_path(reference).replace("/", "_")
        return f"{path}_{slot_name}"

    def add(self, reference: Any, slot_name: str, variable: Any) -> None:
        """Register the slot ``slot_name`` of ``reference``."""
        self._slots[self._register(reference)][slot_name] = variable

    def add_single(self, name: str, variable: Any) -> None:
        """Register a variable that belongs to no model variable."""
        count = sum(key == name or key.startswith(f"{name}#") for key in self.singles)
        self.singles[name if count == 0 else f"{name}#{count}"] = variable

    def add_late(self, name: str, variable: Any) -> None:
        """Register a variable that exists, like the slots, only after building."""
        self.late[name] = variable

    def mark_added(self, variable: Any) -> None:
        """Count the single ``variable`` among the weights: the user added it."""
        self.added |= {k: v for k, v in self.singles.items() if v is variable}

    def skip(self, reference: Any) -> None:
        """Register a model variable that has no slots."""
        self._register(reference)

    def of(self, reference: Any) -> dict[str, Any]:
        """The slots of ``reference`` by name; empty for an unknown variable."""
        return self._slots.get(identity(reference), {})

    def slot_names(self) -> list[str]:
        """The names of all slots, in the order of creation."""
        names: dict[str, None] = {}
        for slots in self._slots.values():
            names.update(dict.fromkeys(slots))
        return list(names)

    def column(self, slot_name: str) -> list[Any]:
        """The slot ``slot_name`` of every variable that has it, in order."""
        return [slots[slot_name] for slots in self._slots.values() if slot_name in slots]

    def named_in_columns(self) -> list[tuple[str, Any]]:
        """All slots with their names, slot by slot: all m, all v and so on."""
        return [
            (f"{slot_name} of {self._names[key]}", slots[slot_name])
            for slot_name in sorted(self.slot_names(), key=_slot_order)
            for key, slots in self._slots.items()
            if slot_name in slots
        ]

    def named(self) -> dict[str, Any]:
        """All variables of a built optimizer by the name under which they are saved."""
        return {f"built|{name}": variable for name, variable in self.late.items()} | {
            f"{slot_name}|{self._names[key]}": variable
            for key, slots in self._slots.items()
            for slot_name, variable in slots.items()
        }
