"""What people have as data, read into arrays."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from surefoot.compare.errors import UsageError

_FORMS = (
    "a tuple (inputs, targets) or (inputs, targets, sample_weights), or a dataset, loader or list "
    "of batches that are such tuples"
)
# Whole numbers, floats, complex numbers, booleans, texts, and bfloat16, which NumPy calls void.
_KINDS = "iufcbUSV"


def read_examples(name: str, data: Any) -> tuple[tuple[Any, ...], int | None]:
    """The examples as nested arrays.

    Args:
        name: What they are called in messages.
        data: A tuple of arrays, or batches.

    Returns:
        `(inputs, targets)` or `(inputs, targets, sample_weights)`, and the size of the first batch
        if the data came in batches.

    Raises:
        UsageError: If these are not examples; the message says what is accepted.
    """
    if isinstance(data, tuple):
        examples, batch_size = _arrays(name, data), None
        _check(name, examples)
    else:
        # PyTorch's loaders make a list of what a dataset gives as a tuple.
        read = (tuple(each) if isinstance(each, list) else each for each in _batches(name, data))
        batches = [_arrays(name, batch) for batch in read]
        for batch in batches:
            _check(name, batch)
        if not batches:
            raise UsageError(f"{name} has no batches. Received: {type(data).__name__}")
        examples, batch_size = _sorted(_join(name, batches)), count_examples(batches[0])
    return examples, batch_size


def leaves(examples: Any) -> list[Any]:
    """The arrays of a nested structure, in order."""
    if isinstance(examples, Mapping):
        return [array for key in sorted(examples) for array in leaves(examples[key])]
    if isinstance(examples, tuple | list):
        return [array for each in examples for array in leaves(each)]
    return [examples]


def pick(examples: Any, index: Any) -> Any:
    """The chosen examples of every array in a nested structure."""
    return _map(lambda array: array[index], examples)


def count_examples(examples: Any) -> int:
    """How many examples there are."""
    return len(leaves(examples)[0])


def _map(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """The structure with each array replaced by the function of it, and of those at its place."""
    if isinstance(first, Mapping):
        if any(each.keys() != first.keys() for each in others):
            raise ValueError(f"other keys than {sorted(first)}")
        return {
            key: _map(function, value, *(each[key] for each in others))
            for key, value in first.items()
        }
    if isinstance(first, tuple | list):
        kind = list if isinstance(first, list) else tuple
        return kind(_map(function, *together) for together in zip(first, *others, strict=True))
    return function(first, *others)


def _check(name: str, examples: Any) -> None:
    if not isinstance(examples, tuple) or len(examples) not in (2, 3):
        raise UsageError(f"{name} must be {_FORMS}. Received: {_what(examples)}")
    lengths = [len(array) if array.ndim else 0 for array in leaves(examples)]
    if not lengths or min(lengths) == 0 or len(set(lengths)) > 1:
        raise UsageError(
            f"{name} must hold arrays of the same length along the first axis; a list is taken "
            "for several inputs or outputs, and a dataset must give batches, not single examples. "
            f"Received lengths: {', '.join(map(str, lengths[:6]))}{', ...' * (len(lengths) > 6)}"
        )


def _what(data: Any) -> str:
    if isinstance(data, tuple):
        return f"a tuple of {len(data)}"
    return f"{type(data).__name__}{list(data) if isinstance(data, Mapping) else ''}"


def _batches(name: str, data: Any) -> Iterable[Any]:
    if hasattr(data, "__next__"):
        raise UsageError(
            f"{name} must be {_FORMS}. Received: {type(data).__name__}, which can be read only "
            "once and may never end"
        )
    # What `tf.data` and `keras.utils.PyDataset` say of themselves if they never end.
    never = object()
    if getattr(data, "num_batches", never) is None or (
        hasattr(data, "cardinality") and int(data.cardinality()) == -1
    ):
        raise UsageError(
            f"{name} must end: one pass over it is read. Received: {type(data).__name__} "
            "without an end; leave out `repeat`, or add `take`"
        )
    # Arrays, tensors and frames can be iterated over, but give no batches.
    is_table = isinstance(data, str | Mapping) or hasattr(data, "shape")
    if is_table or not hasattr(data, "__iter__"):
        raise UsageError(f"{name} must be {_FORMS}. Received: {_what(data)}")
    return data


def _join(name: str, batches: Sequence[Any]) -> Any:
    try:
        return _map(lambda *arrays: np.concatenate(arrays), *batches)
    except ValueError as error:
        raise UsageError(
            f"{name} has batches that differ in more than their number of examples; pad the "
            f"examples to one shape. Received: {error}"
        ) from None


def _sorted(examples: Any) -> Any:
    """The examples in the order of their digests.

    A dataset may shuffle, and does so otherwise in each worker; the seed alone must decide.
    """
    arrays = leaves(examples)

    def digest(index: int) -> bytes:
        return hashlib.sha256(b"".join(array[index].tobytes() for array in arrays)).digest()

    return pick(examples, sorted(range(len(arrays[0])), key=digest))


def _arrays(name: str, data: Any) -> Any:
    return _map(lambda value: _array(name, value), data)


def _array(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "to_numpy"):
        return _from_frame(name, value)
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind == "O":
        array = _texts(array)
    if array.dtype.kind not in _KINDS:
        raise UsageError(
            f"{name} must hold numbers or texts. Received: {type(value).__name__} of "
            f"{array.dtype.name} values; convert it to an array of one type"
        )
    return array


def _texts(array: np.ndarray) -> np.ndarray:
    """An array of texts that are objects (of pandas, or bytes of TensorFlow) as one of texts."""
    texts = [each.decode() if isinstance(each, bytes) else each for each in array.flat]
    if not texts or not all(isinstance(each, str) for each in texts):
        return array
    return np.array(texts).reshape(array.shape)


def _from_frame(name: str, frame: Any) -> np.ndarray:
    """A frame or a column of pandas or Polars; a missing value is NaN."""
    array: np.ndarray = frame.to_numpy()
    if array.dtype.kind in _KINDS:
        return array
    is_column = not hasattr(frame, "columns")
    names = [frame.name] if is_column else list(frame.columns)
    types = [frame.dtype] if is_column else list(frame.dtypes)
    others = [
        f"{column!r} ({kind})"
        for column, kind in zip(names, types, strict=True)
        if not _is_number(kind)
    ]
    if is_column and others and (texts := _texts(array)).dtype.kind == "U":
        return texts
    if others:
        raise UsageError(
            f"{name} has columns that are not numbers: {', '.join(others)}. Encode them as "
            "numbers, or give a dict of columns to a model with one input for each"
        )
    if hasattr(types[0], "kind"):
        return frame.to_numpy(dtype=float, na_value=np.nan)
    return frame.cast(float).to_numpy()


def _is_number(kind: Any) -> bool:
    """Whether a column's type is of numbers; those of pandas have a kind, as NumPy's."""
    if hasattr(kind, "kind"):
        return kind.kind in "iufb"
    return kind.is_numeric() or str(kind) == "Boolean"
