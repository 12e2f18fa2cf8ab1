"""Opens a `.keras` archive without trusting its table of contents."""

from __future__ import annotations

import pathlib
import stat
import zipfile

from surefoot.migrate.errors import MigrationError, UnsafeFileError
from surefoot.migrate.readers.hdf5_guard import ALWAYS_ALLOWED, MAX_EXPANSION, first_line

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"
ENCRYPTED = 0x1


class ModelArchive:
    """A `.keras` file whose member names and sizes are checked."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = pathlib.Path(path).stat().st_size
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise MigrationError(
                f"{path} is not a complete `.keras` archive: it is truncated, damaged or of "
                f"another kind ({first_line(error)})."
            ) from error
        try:
            self._check()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> ModelArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _check(self) -> None:
        seen = set()
        total = 0
        for member in self._zip.infolist():
            name = member.filename
            parts = pathlib.PurePosixPath(name.replace("\\", "/"))
            if parts.is_absolute() or ".." in parts.parts or ":" in name or "\0" in name:
                raise UnsafeFileError(
                    f"{self.path} has a member that points outside it. Received: {name!r}."
                )
            if name in seen:
                raise UnsafeFileError(f"{self.path} has {name!r} twice.")
            seen.add(name)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UnsafeFileError(f"{self.path}: {name!r} is a link. Links are not followed.")
            if member.flag_bits & ENCRYPTED:
                raise MigrationError(f"{self.path}: {name!r} is encrypted.")
            total += member.file_size
        if total > max(ALWAYS_ALLOWED, MAX_EXPANSION * self.size):
            raise UnsafeFileError(
                f"{self.path} unpacks to {total} bytes from {self.size}, according to its table of "
                "contents; it is damaged or made to fill the memory."
            )
        missing = {CONFIG, METADATA, WEIGHTS} - seen
        if missing:
            raise MigrationError(
                f"{self.path} is not a `.keras` model: it lacks {sorted(missing)}. "
                f"Received: {sorted(seen)}."
            )

    def has(self, name: str) -> bool:
        """Whether there is such a member."""
        return name in self._zip.NameToInfo

    def read(self, name: str) -> bytes:
        """Read one member, at most as many bytes as its entry says."""
        announced = self._zip.getinfo(name).file_size
        try:
            with self._zip.open(name) as member:
                content = member.read(announced + 1)
        except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
            raise MigrationError(
                f"{self.path}: {name} is damaged ({first_line(error)})."
            ) from error
        except Exception as error:
            # zlib, bz2 and lzma each raise errors of their own for damaged data.
            if type(error).__module__ not in ("zlib", "_lzma", "lzma", "bz2"):
                raise
            raise MigrationError(
                f"{self.path}: {name} is damaged ({first_line(error)})."
            ) from error
        if len(content) != announced:
            raise UnsafeFileError(f"{self.path}: the size of {name} differs from its entry.")
        return content
