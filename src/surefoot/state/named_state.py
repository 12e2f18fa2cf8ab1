"""State that is saved and loaded by name, and checked.

Keras stores an optimizer's variables by position. If a file does not match, it
warns and ignores the state. Here every variable has a name. If an entry of a
file is missing, unknown or has a wrong shape, an error says so, and nothing is
changed.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from surefoot import engines
from surefoot.engines import plain
from surefoot.engines.plain import is_lower_half
from surefoot.rule.rounding import halves
from surefoot.state.attachment import require_attached
from surefoot.state.counter import MAX_UPDATES
from surefoot.state.hyperparameters import HyperparameterSet
from surefoot.variables.slots import SlotRegistry
from surefoot.variables.variable import dtype_of, value_of

State = dict[str, np.ndarray]

_LOGGER = logging.getLogger("surefoot")

_HYPERPARAMETER = "hyperparameter|"
_SLOT = "|"  # every slot name contains it, see SlotRegistry.named


class NamedState:
    """Keras's saving methods for an optimizer, by name and strict.

    Slots that are loaded before the optimizer is built (by unpickling, or from a backup in a
    new process) are stored, and checked when it is built.
    """

    hyperparameters: HyperparameterSet
    slots: SlotRegistry
    pending_slots: State
    """Slots that were loaded before their variables existed."""
    name: str
    built: bool
    _iterations: Any

    def save_own_variables(self, store: Any) -> None:
        """Save the state by name; called by Keras."""
        for key, array in self.named_state().items():
            store[key] = array

    def load_own_variables(self, store: Any) -> None:
        """Load the state by name; called by Keras.

        Raises:
            ValueError: If the file does not match; it names each entry, and
                nothing is loaded.
        """
        require_attached(self._iterations, "the optimizer's state")
        state = {}
        for key in store.keys():  # noqa: SIM118
            try:
                state[key] = np.asarray(store[key])
            except Exception as error:
                raise ValueError(
                    f"The entry '{key}' of the state of the optimizer '{self.name}' cannot be "
                    f"read; nothing was loaded. {error}"
                ) from error
        if problems := self.mismatches(state):
            raise ValueError(
                f"The saved state does not match the optimizer '{self.name}' "
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

    def mismatches(self, state: State, prefix: str = "") -> list[str]:
        """Messages about missing and unknown entries, wrong shapes and impossible values.

        ``prefix`` is the prefix of the names in the file.
        """
        singles, hyperparameters, slots = _parts(state)
        variables = self._named_singles()
        expected = {_HYPERPARAMETER + name: () for name in self.hyperparameters.stored()}
        problems = variable_mismatches(variables, singles, prefix)
        added = [id(v) for v in self.slots.added.values()]  # only the user knows their range
        own = {k: v for k, v in variables.items() if id(v) not in added}
        problems += range_problems(self, own, singles, prefix)
        problems += shape_mismatches(expected, hyperparameters, prefix)
        problems += [
            f"{prefix}{_HYPERPARAMETER}{name}: {problem}"
            for name, problem in self.hyperparameters.problems(_unprefixed(hyperparameters))
        ]
        # A state that was saved before the first step has no slots; before its first step, an
        # optimizer accepts it.
        if self.built and (slots or as_array(self._iterations) > 0):
            problems += variable_mismatches(_in_files(self.slots.named()), slots, prefix)
        return problems

    def restore(self, state: State) -> None:
        """Set a ``state`` that has no mismatches."""
        singles, hyperparameters, slots = _parts(state)
        with permanent_assignment(self.name):
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
        """Set the slots that were loaded before building, if there are any.

        Raises:
            ValueError: If they do not match the variables; it names each entry. They are kept, so
                that no step is done without them.
            RuntimeError: If they would be lost, see `permanent_assignment`.
        """
        if self.pending_slots:
            slots = _in_files(self.slots.named())
            problems = variable_mismatches(slots, self.pending_slots)
            if problems:
                raise pending_state_error(self.name, problems)
            with permanent_assignment(self.name):
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
    # "/" would create groups in an HDF5 file.
    return {name.replace("/", "."): variable for name, variable in named.items()}


def _parts(state: State) -> tuple[State, State, State]:
    """Split a state into single variables, hyperparameters and slots."""
    hyperparameters = {k: v for k, v in state.items() if k.startswith(_HYPERPARAMETER)}
    slots = {k: v for k, v in state.items() if _SLOT in k and k not in hyperparameters}
    return {k: v for k, v in state.items() if _SLOT not in k}, hyperparameters, slots


def _unprefixed(hyperparameters: State) -> State:
    return {k.removeprefix(_HYPERPARAMETER): v for k, v in hyperparameters.items()}


@contextlib.contextmanager
def permanent_assignment(name: str) -> Iterator[None]:
    """A context in which assignments to an optimizer's variables last, even inside a trace.

    Raises:
        RuntimeError: In a `keras.StatelessScope`, at whose end they would be lost.
    """
    if plain.is_stateless():
        raise RuntimeError(
            f"State that is set in the optimizer '{name}' here would be lost: in a stateless step, "
            "assignments to its variables are not kept. Call `optimizer.build(variables)`, load "
            "state and add slots before the step."
        )
    with engines.active().outside_of_traces():
        yield


def pending_state_error(name: str, problems: list[str]) -> ValueError:
    """The error for state that was loaded before an optimizer was built and does not match."""
    return ValueError(
        f"The state that was loaded into the optimizer '{name}' before it was built does not "
        f"match its variables. {'; '.join(problems)}. Create a new optimizer, and load a state "
        "that matches."
    )


def storable(variable: Any) -> np.ndarray:
    """The value of a variable as an array that every file format supports."""
    array = as_array(variable)
    # HDF5 has no bfloat16; float32 represents it exactly.
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def shapes(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of variables by name."""
    return {key: tuple(variable.shape) for key, variable in variables.items()}


def shape_mismatches(
    expected: Mapping[str, tuple[int, ...]], stored: State, prefix: str = ""
) -> list[str]:
    """Messages about missing and unknown entries of ``stored`` and wrong shapes."""
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


def variable_mismatches(variables: Mapping[str, Any], stored: State, prefix: str = "") -> list[str]:
    """Messages about missing and unknown entries of ``stored``, wrong shapes and wrong dtypes."""
    problems = shape_mismatches(shapes(variables), stored, prefix)
    for key, variable in variables.items():
        if key in stored:
            try:
                array = _in_halves(key, variable, stored[key])
                converted(variable, array, _kind(_dtype(variable)))
            except ValueError as error:
                problems.append(f"{prefix}{key} {error}")
    return problems


def range_problems(
    optimizer: Any, variables: Mapping[str, Any], stored: State, prefix: str = ""
) -> list[str]:
    """Messages about numbers in ``stored`` that no step can produce."""
    problems = []
    for key, variable in variables.items():
        array = stored.get(key)
        if array is None or array.shape or _kind(array.dtype) not in "biuf":
            continue
        counts = variable is optimizer._iterations
        least = 0 if counts or variable is optimizer._learning_rate else -math.inf
        most = MAX_UPDATES * (optimizer.gradient_accumulation_steps or 1) if counts else math.inf
        number = array.item()
        if not (math.isfinite(number) and least <= number <= most):
            problems.append(f"{prefix}{key} has the value {array}, which is not possible")
    return problems


def assign(variables: Mapping[str, Any], stored: State) -> None:
    """Assign the entries of ``stored`` to the variables with the same names.

    Slots in bfloat16 round those of a file that had more digits, and a warning says so.
    """
    rounded = []
    for key, variable in variables.items():
        value = converted(variable, _in_halves(key, variable, stored[key]))
        variable.assign(value)
        if dtype_of(variable) == "bfloat16" and not _is_bfloat16(value):
            rounded.append(key)
    if rounded:
        _LOGGER.warning(
            "The state that was loaded has more digits than bfloat16, in which %d slots of the "
            "optimizer are stored: they were rounded to the nearest. First of them: '%s'.",
            len(rounded),
            rounded[0],
        )


def _in_halves(key: str, variable: Any, array: np.ndarray) -> np.ndarray:
    """The lower half of a master that was saved as a whole float32, as masters once were."""
    if (
        key.split(_SLOT, maxsplit=1)[0] != "master"
        or array.dtype.kind != "f"
        or not is_lower_half(variable)
    ):
        return array
    whole = keras.ops.convert_to_tensor(array, dtype="float32")
    lower = halves(engines.active().arrays, whole).lower
    return np.array(keras.ops.convert_to_numpy(lower)).astype("int16")


def _is_bfloat16(array: np.ndarray) -> bool:
    """Whether bfloat16, the upper half of a float32, represents all numbers of an array."""
    return not np.any(np.asarray(array, "float32").view("uint32") & 0xFFFF)


def converted(variable: Any, array: np.ndarray, kinds: str = "biuf") -> np.ndarray:
    """``array`` in the dtype of ``variable``, for its `assign`.

    Args:
        variable: The variable.
        array: Any array.
        kinds: The accepted kinds of dtypes, as NumPy's letters.

    Raises:
        ValueError: If it has another dtype, or a number that the variable cannot represent.
    """
    dtype = _dtype(variable)
    if array.dtype == dtype:
        return array
    if _kind(array.dtype) not in kinds:
        raise ValueError(f"has the dtype {array.dtype}, which is not accepted for {dtype}")
    with np.errstate(all="ignore"):
        result = array.astype(dtype)
        rounded = _kind(dtype) == "f"
        lost = np.isfinite(array) & ~np.isfinite(result) if rounded else result != array
    if lost.any():
        raise ValueError(f"has a number that {dtype} cannot represent: {array[lost].flat[0]}")
    return result


def _dtype(variable: Any) -> np.dtype[Any]:
    # NumPy has no bfloat16; an assignment from float32 rounds.
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return np.dtype("float32" if dtype == "bfloat16" else dtype)


def _kind(dtype: np.dtype[Any]) -> str:
    return {"bfloat16": "f"}.get(dtype.name, "iu" if dtype.kind in "iu" else dtype.kind)


def as_array(variable: Any) -> np.ndarray:
    """A copy of the whole value of a Keras variable or a backend's variable."""
    return np.array(keras.ops.convert_to_numpy(engines.active().gathered(value_of(variable))))
