"""Reads arrays and JSON from HDF5, and refuses content that only an attack would need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py
import numpy as np

from surefoot.migrate.errors import MigrationError, UnsafeFileError
from surefoot.migrate.readers.description import Array

# A dataset can be declared far larger than the file (chunks that were never written, or that
# are compressed); reading it would fill the memory.
MAX_EXPANSION = 100
ALWAYS_ALLOWED = 64 * 2**20
NUMBERS = "biuf"
MAX_DEPTH = 64


class GuardedHDF5:
    """An open HDF5 file whose links and sizes are checked before anything is read."""

    def __init__(self, source: str | BinaryIO, name: str, size: int) -> None:
        self.name = name
        try:
            self.file = h5py.File(source, "r")
        except OSError as error:
            raise MigrationError(
                f"{name} cannot be read as HDF5: it is truncated, damaged or of another kind "
                f"({first_line(error)})."
            ) from error
        try:
            self._check(size)
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> GuardedHDF5:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def _check(self, size: int) -> None:
        total = 0
        for path, dataset in self._walk(self.file, "", 0):
            if dataset.is_virtual or dataset.external:
                raise UnsafeFileError(
                    f"{self.name}: {path} stores its numbers in another file. Only files that "
                    "contain their own numbers are read."
                )
            if dataset.dtype.kind not in NUMBERS:
                raise UnsafeFileError(
                    f"{self.name}: {path} contains no numbers. Received: dtype={dataset.dtype}."
                )
            total += dataset.size * dataset.dtype.itemsize
        if total > max(ALWAYS_ALLOWED, MAX_EXPANSION * size):
            raise UnsafeFileError(
                f"{self.name} declares {total} bytes of numbers in a file of {size} bytes; it is "
                "damaged or made to fill the memory."
            )

    def _walk(self, group: h5py.Group, path: str, depth: int) -> Iterator[tuple[str, h5py.Dataset]]:
        if depth > MAX_DEPTH:
            raise UnsafeFileError(
                f"{self.name}: groups are nested more than {MAX_DEPTH} deep at {path}."
            )
        try:
            for name in group:
                here = f"{path}/{name}"
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise UnsafeFileError(f"{self.name}: {here} is a link. Links are not followed.")
                item = group[name]
                if isinstance(item, h5py.Dataset):
                    yield here, item
                elif isinstance(item, h5py.Group):
                    yield from self._walk(item, here, depth + 1)
                else:
                    raise UnsafeFileError(f"{self.name}: {here} is neither a group nor a dataset.")
        except (OSError, RuntimeError, KeyError) as error:
            raise MigrationError(
                f"{self.name} is damaged at {path or '/'} ({first_line(error)})."
            ) from error

    def group(self, path: str) -> h5py.Group | None:
        """The group at a path, or None."""
        item = self.file.get(path)
        return item if isinstance(item, h5py.Group) else None

    def array(self, group: h5py.Group, name: str) -> Array:
        """The array of one dataset."""
        item = group.get(name)
        if not isinstance(item, h5py.Dataset):
            raise MigrationError(f"{self.name}: {group.name}/{name} is listed but missing.")
        try:
            return np.asarray(item[()])
        except (OSError, RuntimeError) as error:
            raise MigrationError(
                f"{self.name}: {item.name} cannot be read ({first_line(error)})."
            ) from error

    def names(self, group: h5py.Group, attribute: str) -> list[str]:
        """A list of strings; Keras splits a long list over several attributes."""
        if attribute in group.attrs:
            parts = [group.attrs[attribute]]
        else:
            parts = []
            while f"{attribute}{len(parts)}" in group.attrs:
                parts.append(group.attrs[f"{attribute}{len(parts)}"])
            if not parts:
                raise MigrationError(
                    f"{self.name}: {group.name} has no `{attribute}`; this is not a model that "
                    "Keras 2 saved, or the saving failed. (Keras 2 could not write vocabularies of "
                    "lookup layers into `.h5`.)"
                )
        return [text(name) for part in parts for name in np.asarray(part).ravel()]

    def json(self, attribute: str) -> Any:
        """The JSON in an attribute of the root, or None."""
        if attribute not in self.file.attrs:
            return None
        return parse_json(self.file.attrs[attribute], f"{self.name}: {attribute}")


def parse_json(value: object, what: str) -> Any:
    """Parses JSON from a file; an error names where it is."""
    try:
        return json.loads(text(value))
    except (ValueError, RecursionError) as error:
        raise MigrationError(f"{what} is not JSON ({first_line(error)}).") from error


def text(value: object) -> str:
    """A string that h5py gave as bytes or str."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def first_line(error: BaseException) -> str:
    """The first line of a library's error message, which may be very long."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
