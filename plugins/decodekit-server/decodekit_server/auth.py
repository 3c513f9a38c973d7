"""
Keys: who may use the server. Kept as digests, compared in constant time, never shown.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from decodekit.errors import InputError
from decodekit_server.hosts import Hosts

VARIABLE = "DECODEKIT_API_KEY"
MAX_KEY = 1024  # bytes
MIN_KEY = 16

Headers = Sequence[tuple[bytes, bytes]]


class Keys:
    """Of a server; none: everybody may use it."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = tuple(hashlib.sha256(key.encode()).digest() for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def tenant(self, headers: Headers) -> str | None:
        """Whose request it is: a name that tells keys apart, "" where there are none; None: nobody's."""
        if not self._digests:
            return ""
        key = _key(headers)
        if key is None:
            return None
        digest = hashlib.sha256(key).digest()
        found = [hmac.compare_digest(digest, known) for known in self._digests]  # all, whichever it is
        return digest.hex()[:16] if any(found) else None


def admission(host: str, names: Sequence[str], file: Path | None) -> tuple[Hosts, Keys]:
    """By which names, and with which keys, an address may be asked.

    InputError where it can be reached from elsewhere and there is no key.
    """
    hosts, keys = Hosts.of(host, names), read_keys(file)
    if not hosts.is_local and not keys:
        raise InputError(
            f"--host {host} can be reached from elsewhere, so a key is needed; "
            f"set {VARIABLE} or give --key-file"
        )
    return hosts, keys


def read_keys(file: Path | None) -> Keys:
    """The keys in a file, one a line, or else in the environment."""
    if file is None:
        key = os.environ.get(VARIABLE)
        return Keys([_checked(key, VARIABLE)] if key is not None else [])
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"{file}: cannot be read as keys ({type(exc).__name__}); check the path") from exc
    keys = [_checked(line, str(file)) for line in lines if line and not line.startswith("#")]
    if not keys:
        raise InputError(f"{file}: holds no key; write one a line")
    return Keys(keys)


def _checked(key: str, where: str) -> str:
    if not MIN_KEY <= len(key.encode()) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise InputError(
            f"{where}: a key is {MIN_KEY} to {MAX_KEY} printable ASCII characters; "
            "make one with `openssl rand -hex 32`"
        )
    return key


def _key(headers: Headers) -> bytes | None:
    """The key that a request brings, if it brings exactly one."""
    given = [(n, value) for n, value in headers if n in (b"authorization", b"x-api-key")]
    if len(given) != 1 or len(given[0][1]) > 2 * MAX_KEY:
        return None
    name, value = given[0]
    if name == b"x-api-key":
        return value
    scheme, _, credentials = value.partition(b" ")
    if scheme.lower() == b"bearer":
        return credentials
    if scheme.lower() == b"basic":  # a browser asks its user; any name, the key as password
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[2]
        except binascii.Error:
            return None
    return None
