"""
A file as bytes, unpacked on the way where it is gzip's. What unpacks to absurdly much is refused.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from decodekit_export.faults import DataError

MAX_RATIO = 200  # of unpacked to packed bytes; prose has 3, very uniform rows have 50
HARMLESS = 64 * 2**20  # bytes unpacked, below which the ratio is of no interest
_GZIP = b"\x1f\x8b"


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked. DataError if it cannot be read or unpacked to the end."""
    try:
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == _GZIP
            yield cast(BinaryIO, io.BufferedReader(_Unpacked(file))) if packed else file
    except (EOFError, zlib.error) as exc:
        raise DataError([f"{path}: damaged or cut short ({exc}); fetch it again"]) from exc
    except OSError as exc:
        raise DataError([f"{path}: cannot be read ({exc.strerror or exc}); check the path"]) from exc


class _Unpacked(io.RawIOBase):
    def __init__(self, file: io.BufferedReader) -> None:
        self._packed = file
        self._unpacked = gzip.GzipFile(fileobj=file)
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._unpacked.readinto(buffer)
        self._bytes += count
        if self._bytes > max(HARMLESS, MAX_RATIO * self._packed.tell()):
            raise OSError(f"it unpacks to more than {MAX_RATIO} times its size")
        return count
