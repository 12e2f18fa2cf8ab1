"""State saved and loaded by name, and checked.

Keras stores an optimizer's variables by position, zips what it finds with what
it has, and on a mismatch warns and starts afresh. Here every variable has a
name; a file with anything missing, extra or misshapen is an error that says
so, and changes nothing.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from surefoot import engines
from surefoot.engines import plain
from surefoot.state.attachment import require_attached
from surefoot.state.counter import MOST_UPDATES
from surefoot.state.hyperparameters import HyperparameterSet
from surefoot.variables.slots import SlotRegistry
from surefoot.variables.variable import value_of

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
    _iterations: Any

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
        require_attached(self._iterations, "the optimizer's state")
        state = {}
        for key in store.keys():  # noqa: SIM118
            try:
                state[key] = np.asarray(store[key])
            except Exception as error:
                raise ValueError(
                    f"The saved state of the optimizer '{self.name}' cannot be read at '{key}'; "
                    f"nothing was loaded. {error}"
                ) from error
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
        """What of ``state`` is missing, extra, misshapen or no possible value, in words.

        ``prefix`` is what stands before its names in the file.
        """
        singles, hyperparameters, slots = _parts(state)
        variables = self._named_singles()
        expected = {_HYPERPARAMETER + name: () for name in self.hyperparameters.stored()}
        problems = mismatches(variables, singles, prefix)
        added = [id(v) for v in self.slots.added.values()]  # whose range only the user knows
        own = {k: v for k, v in variables.items() if id(v) not in added}
        problems += range_problems(self, own, singles, prefix)
        problems += shape_mismatches(expected, hyperparameters, prefix)
        problems += [
            f"{prefix}{_HYPERPARAMETER}{name}: {problem}"
            for name, problem in self.hyperparameters.problems(_unprefixed(hyperparameters))
        ]
        # An optimizer saved before its first step has no slots: a fresh start, for a fresh one.
        if self.built and (slots or as_array(self._iterations) > 0):
            problems += mismatches(_in_files(self.slots.named()), slots, prefix)
        return problems

    def restore(self, state: State) -> None:
        """Take a ``state`` without misfits."""
        singles, hyperparameters, slots = _parts(state)
        with lasting(self.name):
            assign(self._named_singles(), singles)
            self.hyperparameters.restore(
                {k: float(v) for k, v in _unprefixed(hyperparameters).items()}
            )
            self.pending_slots.clear()
            if not self.built:
                self.pending_slots.update(slots)
            elif slots:
                assign(_in_files(self.slots.named()), slots)

    def restore_pending_slots(self) -> None:
        """Take the slots that were loaded before building, if there were any.

        Raises:
            ValueError: If they do not fit the variables; it names each entry. They wait on, so
                that no step is made without them.
            RuntimeError: If they would be lost here.
        """
        if self.pending_slots:
            slots = _in_files(self.slots.named())
            problems = mismatches(slots, self.pending_slots)
            if problems:
                raise misfit_of_pending(self.name, problems)
            with lasting(self.name):
                assign(slots, self.pending_slots)
            self.pending_slots.clear()

    def _named_singles(self) -> dict[str, Any]:
        """The variables that are neither slots nor hyperparameters, by name."""
        names = {"iteration": self._iterations}
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


def _unprefixed(hyperparameters: State) -> State:
    return {k.removeprefix(_HYPERPARAMETER): v for k, v in hyperparameters.items()}


@contextlib.contextmanager
def lasting(name: str) -> Iterator[None]:
    """A scope in which state is put into an optimizer for good, whatever is traced around it.

    Raises:
        RuntimeError: If it would be lost at the end of a `keras.StatelessScope`.
    """
    if plain.is_stateless():
        raise RuntimeError(
            f"What is put into the optimizer '{name}' here would be lost: in a stateless step its "
            "variables keep nothing. Call `optimizer.build(variables)` before the step, and load "
            "state or add slots then."
        )
    with engines.active().outside_of_traces():
        yield


def misfit_of_pending(name: str, problems: list[str]) -> ValueError:
    """The error for state that was loaded before an optimizer was built, and does not fit."""
    return ValueError(
        f"The state loaded into the optimizer '{name}' before it was built does not fit its "
        f"variables. {'; '.join(problems)}. Make a new optimizer, and load a state that fits."
    )


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


def mismatches(variables: Mapping[str, Any], stored: State, prefix: str = "") -> list[str]:
    """What of ``stored`` is missing, extra, misshapen or not of its variable's kind, in words."""
    problems = shape_mismatches(shapes(variables), stored, prefix)
    for key, variable in variables.items():
        if key in stored:
            try:
                converted(variable, stored[key], _kind(_dtype(variable)))
            except ValueError as error:
                problems.append(f"{prefix}{key} {error}")
    return problems


def range_problems(
    optimizer: Any, variables: Mapping[str, Any], stored: State, prefix: str = ""
) -> list[str]:
    """Numbers in ``stored`` that no step can have left, in words."""
    problems = []
    for key, variable in variables.items():
        array = stored.get(key)
        if array is None or array.shape or _kind(array.dtype) not in "biuf":
            continue
        counts = variable is optimizer._iterations
        least = 0 if counts or variable is optimizer._learning_rate else -math.inf
        most = MOST_UPDATES * (optimizer.gradient_accumulation_steps or 1) if counts else math.inf
        number = array.item()
        if not (math.isfinite(number) and least <= number <= most):
            problems.append(f"{prefix}{key} is {array}, which is no possible value of it")
    return problems


def assign(variables: Mapping[str, Any], stored: State) -> None:
    """Assign the entries of ``stored`` to the variables of their names."""
    for key, variable in variables.items():
        variable.assign(converted(variable, stored[key]))


def converted(variable: Any, array: np.ndarray, kinds: str = "biuf") -> np.ndarray:
    """``array`` in the dtype of ``variable``, as `assign` takes it.

    Args:
        variable: The variable that is to hold it.
        array: Any array.
        kinds: The kinds of numbers that are accepted, as NumPy's letters.

    Raises:
        ValueError: If it is of another kind, or has a number that the variable cannot hold.
    """
    dtype = _dtype(variable)
    if array.dtype == dtype:
        return array
    if _kind(array.dtype) not in kinds:
        raise ValueError(f"has the dtype {array.dtype}, which is not taken for {dtype}")
    with np.errstate(all="ignore"):
        result = array.astype(dtype)
        rounded = _kind(dtype) == "f"
        lost = np.isfinite(array) & ~np.isfinite(result) if rounded else result != array
    if lost.any():
        raise ValueError(f"has a number that {dtype} has not: {array[lost].flat[0]}")
    return result


def _dtype(variable: Any) -> np.dtype[Any]:
    # NumPy has no bfloat16; assigned from float32, it is rounded.
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def _kind(dtype: np.dtype[Any]) -> str:
    return {"bfloat16": "f"}.get(dtype.name, "iu" if dtype.kind in "iu" else dtype.kind)


def as_array(variable: Any) -> np.ndarray:
    """A copy of the whole value of a Keras variable or a backend's own."""
    return np.array(keras.ops.convert_to_numpy(engines.active().gathered(value_of(variable))))
