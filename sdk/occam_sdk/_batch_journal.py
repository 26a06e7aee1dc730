"""What a batch has done so far: a file beside its table, to which each row is added as a whole."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from ._batch_rows import Row, from_line, to_line


class Journal:
    """The rows of a table that is not written yet, as JSON lines in ``OUT.partial``.

    The file is locked as long as the block runs. It is gone when the block ends well, or has added
    nothing; else it stays, for the batch to go on from there.

    Attributes:
        path: the file.
        rows: what an interrupted batch left; its last line is dropped if it is torn.

    Raises:
        OSError: the file cannot be written.
        ValueError: another batch is writing it, or it is something else.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(f"{out.name}.partial")
        try:
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise OSError(
                f"{self.path}: cannot be written ({error.strerror}); choose another folder"
            ) from error
        try:
            self._lock()
            self.rows = self._read()
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # One that ended just now has removed what we opened.
            if os.path.samestat(os.fstat(self._file.fileno()), self.path.stat()):
                return
        except (BlockingIOError, FileNotFoundError):
            pass
        raise ValueError(f"{self.path}: another batch is writing this table; wait until it is done")

    def _read(self) -> list[Row]:
        self._file.seek(0)
        content = self._file.readall()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            rows = [from_line(line) for line in whole.decode().split("\n")[:-1]]
        except ValueError as error:
            raise ValueError(
                f"{self.path}: is not what this version of occam batch leaves behind; move it away"
            ) from error
        self._file.truncate(len(whole))
        return rows

    def add(self, row: Row) -> None:
        """Write a row: when this returns it is on the disk."""
        line = to_line(row).encode()
        try:
            written = self._file.write(line)
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OSError(f"{self.path}: {error.strerror}; then start it again") from error
        if written != len(line):
            raise OSError(f"{self.path}: the disk is full; make room and start it again")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None or not os.fstat(self._file.fileno()).st_size:
            self.path.unlink(missing_ok=True)
        self._file.close()
