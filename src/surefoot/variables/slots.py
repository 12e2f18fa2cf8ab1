"""Maps the variables of a model to the slots of an optimizer."""

from __future__ import annotations

import re
from typing import Any

from surefoot.variables.variable import identity, variable_path

_ORIGINAL_SLOTS = ("slow", "m", "v", "vhat")


def _slot_order(slot_name: str) -> int:
    known = slot_name in _ORIGINAL_SLOTS
    return _ORIGINAL_SLOTS.index(slot_name) if known else len(_ORIGINAL_SLOTS)


class SlotRegistry:
    """The variables of an optimizer by names that are the same in every process.

    A slot's name consists of the kind of slot and the end of its model variable's
    path: the layer's name and the variable's name. The start of the path depends
    on how the layer was built, and numbers (``dense_3``) depend on how many
    layers the process has created; both can differ between the process that saves
    and the one that loads. Variables with equal names are numbered in the order
    of building.
    """

    def __init__(self) -> None:
        self.by_variable = False
        """Whether the original made all slots of a variable before those of the next."""
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
            self._keep_alive.append(reference)  # so that its id is not reused
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
        """Register a variable that, like the slots, exists only after building."""
        self.late[name] = variable

    def rename(self, slot_name: str, new_name: str) -> None:
        """Give a slot of all variables another name."""
        for slots in self._slots.values():
            if slot_name in slots:
                slots[new_name] = slots.pop(slot_name)

    def mark_added(self, variable: Any) -> None:
        """Mark ``variable`` as added by the user; it is then one of the weights."""
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
        """All slots with their names, slot by slot: all m, all v and so on, as the original."""
        if self.by_variable:
            return [
                (f"{slot_name} of {self._names[key]}", slot)
                for key, slots in self._slots.items()
                for slot_name, slot in slots.items()
            ]
        return [
            (f"{slot_name} of {self._names[key]}", slots[slot_name])
            for slot_name in sorted(self.slot_names(), key=_slot_order)
            for key, slots in self._slots.items()
            if slot_name in slots
        ]

    def named(self) -> dict[str, Any]:
        """The variables that exist only after building, by the names under which they are saved."""
        return {f"built|{name}": variable for name, variable in self.late.items()} | {
            f"{slot_name}|{self._names[key]}": variable
            for key, slots in self._slots.items()
            for slot_name, variable in slots.items()
        }
