"""Which variable of the optimizer belongs to which variable of the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np

from surefoot import engines


@dataclass(slots=True)
class Tracked:
    """One model variable with everything the rule needs besides its gradient."""

    variable: Any
    m: Any
    v: Any
    vhat: Any
    master: Any
    decays: bool
    index: int

    @property
    def moments(self) -> tuple[Any, Any, Any]:
        """The slots of the rule: m, v and, with amsgrad, vhat."""
        return self.m, self.v, self.vhat


class Assignment(NamedTuple):
    """Variables of one shape: those that get a value, and those it is computed from, or None.

    The last target may hold the value rounded; those before hold it as it is computed.
    """

    targets: list[Any]
    sources: list[Any]


def accumulator_dtype(variable: Any) -> str:
    """The dtype of sums over many steps: never less exact than float32."""
    dtype: str = keras.backend.standardize_dtype(variable.dtype)
    return dtype if dtype in ("float32", "float64") else "float32"


def is_low_precision(variable: Any) -> bool:
    """Whether sums of small updates would be lost in the variable's own dtype."""
    return accumulator_dtype(variable) != keras.backend.standardize_dtype(variable.dtype)


def value_of(variable: Any) -> Any:
    """What the backend has in a Keras variable; a backend's own variable is its own."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def as_array(variable: Any) -> np.ndarray:
    """A copy of the whole value of a Keras variable or a backend's own."""
    return np.array(keras.ops.convert_to_numpy(engines.active().whole(value_of(variable))))


def variable_path(variable: Any) -> str:
    """The path of a Keras variable, or the name of a backend's own."""
    path = getattr(variable, "path", None) or getattr(variable, "name", None) or "variable"
    return str(path).split(":", maxsplit=1)[0]


def identity(variable: Any) -> int | str:
    """A key that is the same for a Keras variable and the tf.Variable in it."""
    inner = getattr(variable, "value", None) if isinstance(variable, keras.Variable) else variable
    inner = getattr(variable, "_value", inner)
    handle = getattr(inner, "_unique_id", None)
    return handle if handle is not None else id(variable)


def distinct(variables: Iterable[Any]) -> list[Any]:
    """Variables in their order, each once: that of a shared layer may be listed twice."""
    return list({identity(variable): variable for variable in variables}.values())


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


def exclusion_test(
    var_list: Iterable[Any] | None, var_names: Iterable[str] | None
) -> Callable[[Any], bool]:
    """A test for the variables in ``var_list`` or with a path matching ``var_names``.

    Raises:
        TypeError: If ``var_names`` is not a list of strings.
    """
    excluded = {identity(variable) for variable in var_list or ()}
    if isinstance(var_names, str) or not all(isinstance(n, str) for n in var_names or ()):
        raise TypeError(f"`var_names` must be a list of strings. Received: var_names={var_names!r}")
    patterns = [re.compile(name) for name in var_names or ()]

    def is_excluded(variable: Any) -> bool:
        names = (variable_path(variable), str(getattr(variable, "name", "")))
        return identity(variable) in excluded or any(
            pattern.search(name) for pattern in patterns for name in names
        )

    return is_excluded
