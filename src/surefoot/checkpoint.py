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
from surefoot.slots import SlotRegistry

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
        for key, array in self._own_state().items():
            store[key] = array

    def load_own_variables(self, store: Any) -> None:
        """Read the state by name; called by Keras's loading.

        Raises:
            ValueError: If the file does not fit; it names each entry, and
                nothing is loaded.
        """
        state = {key: np.asarray(store[key]) for key in store.keys()}  # noqa: SIM118
        hyperparameters = _popped(state, lambda key: key.startswith(_HYPERPARAMETER))
        saved_slots = _popped(state, lambda key: _SLOT in key)
        singles = self._named_singles()
        slots = _in_files(self.slots.named())
        problems = _mismatches(singles, state)
        expected = {_HYPERPARAMETER + name: () for name in self.hyperparameters.stored()}
        problems += _shape_mismatches(expected, hyperparameters)
        # An optimizer saved before its first step has no slots: a fresh start.
        if self.built and saved_slots:
            problems += _mismatches(slots, saved_slots)
        self._require_fit(problems)
        _assign(singles, state)
        self.hyperparameters.restore(
            {k.removeprefix(_HYPERPARAMETER): float(v) for k, v in hyperparameters.items()}
        )
        if self.built and saved_slots:
            _assign(slots, saved_slots)
        elif not self.built:
            self.pending_slots.clear()
            self.pending_slots.update(saved_slots)

    def restore_pending_slots(self) -> None:
        """Take the slots that were loaded before building, if there were any.

        Raises:
            ValueError: If they do not fit the variables; it names each entry.
        """
        if self.pending_slots:
            slots = _in_files(self.slots.named())
            self._require_fit(_mismatches(slots, self.pending_slots))
            _assign(slots, self.pending_slots)
            self.pending_slots.clear()

    def _own_state(self) -> State:
        state = {key: _storable(variable) for key, variable in self._named_singles().items()}
        for key, value in self.hyperparameters.stored().items():
            state[_HYPERPARAMETER + key] = np.asarray(value, dtype="float64")
        slots = {key: _storable(v) for key, v in _in_files(self.slots.named()).items()}
        return state | slots | self.pending_slots

    def _named_singles(self) -> dict[str, Any]:
        """The variables that are neither slots nor hyperparameters, by name."""
        names = {"iteration": self._iterations}  # type: ignore[attr-defined]
        learning_rate = self._learning_rate  # type: ignore[attr-defined]
        if isinstance(learning_rate, keras.Variable):
            names["learning_rate"] = learning_rate
        vector = self.hyperparameters.variable
        names |= {k: v for k, v in self.slots.singles.items() if v is not vector}
        return _in_files(names)

    def _require_fit(self, problems: list[str]) -> None:
        if problems:
            raise ValueError(
                f"The saved state does not fit the optimizer '{self.name}' "
                f"({type(self).__name__}); nothing was loaded. {'; '.join(problems)}."
            )


def _in_files(named: Mapping[str, Any]) -> dict[str, Any]:
    # "/" would make groups in an HDF5 file.
    return {name.replace("/", "."): variable for name, variable in named.items()}


def _popped(state: State, wanted: Any) -> State:
    return {key: state.pop(key) for key in list(state) if wanted(key)}


def _storable(variable: Any) -> np.ndarray:
    array = np.asarray(keras.ops.convert_to_numpy(variable.value))
    # HDF5 has no bfloat16; float32 holds it exactly, and loading rounds back.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _mismatches(variables: Mapping[str, Any], stored: State) -> list[str]:
    return _shape_mismatches({key: tuple(v.shape) for key, v in variables.items()}, stored)


def _shape_mismatches(expected: Mapping[str, tuple[int, ...]], stored: State) -> list[str]:
    problems = []
    if missing := [key for key in expected if key not in stored]:
        problems.append(f"Missing from the file: {', '.join(missing)}")
    if extra := [key for key in stored if key not in expected]:
        problems.append(f"In the file but not in the optimizer: {', '.join(extra)}")
    problems += [
        f"{key} has shape {stored[key].shape} in the file and {shape} here"
        for key, shape in expected.items()
        if key in stored and stored[key].shape != shape
    ]
    return problems


def _assign(variables: Mapping[str, Any], stored: State) -> None:
    for key, variable in variables.items():
        dtype = keras.backend.standardize_dtype(variable.dtype)
        variable.assign(stored[key].astype("float32" if dtype == "bfloat16" else dtype))
