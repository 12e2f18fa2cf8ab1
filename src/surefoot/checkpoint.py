"""State saved and loaded by name, and checked.

Keras stores an optimizer's variables by position, zips what it finds with what
it has, and on a mismatch warns and starts afresh. Here every variable has a
name; a file with anything missing, extra or misshapen is an error that says
so, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from surefoot.hyperparameters import HyperparameterSet
from surefoot.slots import SlotRegistry, as_array

State = dict[str, np.ndarray]

_HYPERPARAMETER = "hyperparameter|"
_SLOT = "|"  # in the name of every slot, see SlotRegistry.named


class NamedState:
    """Keras's saving hooks, by name and strict, for an optimizer.

    Slots that arrive before the optimizer is built (unpickling, a backup
    restored into a fresh program) wait and are checked when it is built.
    """

    hyperparameters: HyperparameterSet
    slots: SlotRegistry
    pending_slots: State
    """Slots that were loaded before there were variables to hold them."""
    name: str
    built: bool

    def save_own_variables(self, store: Any) -> None:
        """Write the state by name; called by Keras's saving."""
        for key, array in self.named_state().items():
            store[key] = array

    def load_own_variables(self, store: Any) -> None:
        """Read the state by name; called by Keras's loading.

        Raises:
            ValueError: If the file does not fit; it names each entry, and
                nothing is loaded.
        """
        state = {key: np.asarray(store[key]) for key in store.keys()}  # noqa: SIM118
        if problems := self.misfits(state):
            raise ValueError(
                f"The saved state does not fit the optimizer '{self.name}' "
                f"({type(self).__name__}); nothing was loaded. {'; '.join(problems)}."
            )
        self.restore(state)

    def named_state(self) -> State:
        """The whole state as arrays by name."""
        state = {key: storable(variable) for key, variable in self._named_singles().items()}
        for key, value in self.hyperparameters.stored().items():
            state[_HYPERPARAMETER + key] = np.asarray(value, dtype="float64")
        slots = {key: storable(v) for key, v in _in_files(self.slots.named()).items()}
        return state | slots | self.pending_slots

    def misfits(self, state: State, prefix: str = "") -> list[str]:
        """What of ``state`` is missing, extra or misshapen, in words.

        ``prefix`` is what stands before its names in the file.
        """
        singles, hyperparameters, slots = _parts(state)
        expected = {_HYPERPARAMETER + name: () for name in self.hyperparameters.stored()}
        problems = shape_mismatches(shapes(self._named_singles()), singles, prefix)
        problems += shape_mismatches(expected, hyperparameters, prefix)
        # An optimizer saved before its first step has no slots: a fresh start.
        if self.built and slots:
            problems += shape_mismatches(shapes(_in_files(self.slots.named())), slots, prefix)
        return problems

    def restore(self, state: State) -> None:
        """Take a ``state`` without misfits."""
        singles, hyperparameters, slots = _parts(state)
        assign(self._named_singles(), singles)
        self.hyperparameters.restore(
            {k.removeprefix(_HYPERPARAMETER): float(v) for k, v in hyperparameters.items()}
        )
        if self.built and slots:
            assign(_in_files(self.slots.named()), slots)
        elif not self.built:
            self.pending_slots.clear()
            self.pending_slots.update(slots)

    def restore_pending_slots(self) -> None:
        """Take the slots that were loaded before building, if there were any.

        Raises:
            ValueError: If they do not fit the variables; it names each entry.
        """
        if self.pending_slots:
            slots = _in_files(self.slots.named())
            if problems := shape_mismatches(shapes(slots), self.pending_slots):
                raise ValueError(
                    f"The state loaded into the optimizer '{self.name}' before it was built does "
                    f"not fit its variables. {'; '.join(problems)}."
                )
            assign(slots, self.pending_slots)
            self.pending_slots.clear()

    def _named_singles(self) -> dict[str, Any]:
        """The variables that are neither slots nor hyperparameters, by name."""
        names = {"iteration": self._iterations}  # type: ignore[attr-defined]
        learning_rate = self._learning_rate  # type: ignore[attr-defined]
        if isinstance(learning_rate, keras.Variable):
            names["learning_rate"] = learning_rate
        vector = self.hyperparameters.variable
        names |= {k: v for k, v in self.slots.singles.items() if v is not vector}
        return _in_files(names)


def _in_files(named: Mapping[str, Any]) -> dict[str, Any]:
    # "/" would make groups in an HDF5 file.
    return {name.replace("/", "."): variable for name, variable in named.items()}


def _parts(state: State) -> tuple[State, State, State]:
    """Split a state into singles, hyperparameters and what exists once built."""
    hyperparameters = {k: v for k, v in state.items() if k.startswith(_HYPERPARAMETER)}
    slots = {k: v for k, v in state.items() if _SLOT in k and k not in hyperparameters}
    return {k: v for k, v in state.items() if _SLOT not in k}, hyperparameters, slots


def storable(variable: Any) -> np.ndarray:
    """The value of a variable as an array that every file format takes."""
    array = as_array(variable)
    # HDF5 has no bfloat16; float32 holds it exactly, and loading rounds back.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def shapes(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of variables by name."""
    return {key: tuple(variable.shape) for key, variable in variables.items()}


def shape_mismatches(
    expected: Mapping[str, tuple[int, ...]], stored: State, prefix: str = ""
) -> list[str]:
    """What of ``stored`` is missing, extra or misshapen, in words."""
    problems = []
    if missing := [key for key in expected if key not in stored]:
        names = ", ".join(prefix + key for key in missing)
        problems.append(f"Missing from the file: {names}")
    if extra := [key for key in stored if key not in expected]:
        names = ", ".join(prefix + key for key in extra)
        problems.append(f"In the file but not in the optimizer: {names}")
    problems += [
        f"{prefix}{key} has shape {stored[key].shape} in the file and {shape} here"
        for key, shape in expected.items()
        if key in stored and stored[key].shape != shape
    ]
    return problems


def assign(variables: Mapping[str, Any], stored: State) -> None:
    """Assign the entries of ``stored`` to the variables of their names."""
    for key, variable in variables.items():
        dtype = keras.backend.standardize_dtype(variable.dtype)
        variable.assign(stored[key].astype("float32" if dtype == "bfloat16" else dtype))
