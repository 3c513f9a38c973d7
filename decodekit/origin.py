"""Where a strategy comes from, for errors and records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata

from decodekit.errors import DecodekitError, StrategyError


@cache
def distribution(package: str) -> str:
    """The distribution that a top-level package belongs to, and its version; "" where there is none."""
    found = metadata.packages_distributions().get(package)
    return f"{found[0]} {metadata.version(found[0])}" if found else ""


def version(name: str) -> str | None:
    """Of a distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def describe(strategy: object) -> str:
    """A strategy as errors name it: its repr and the distribution it came with."""
    origin = distribution(type(strategy).__module__.partition(".")[0])
    try:
        name = repr(strategy)
    except Exception:  # it may be broken in every way
        name = type(strategy).__name__
    return f"{name} ({origin})" if origin else name


@contextmanager
def named(strategy: object, place: str) -> Iterator[None]:
    """A plugin's fault ends this request with the plugin's name on it."""
    try:
        yield
    except DecodekitError:
        raise
    except (Exception, SystemExit) as exc:
        raise StrategyError(f"{describe(strategy)} raised {exc!r} at {place}") from exc
