"""Obedience: what became of a law that was tried."""

from __future__ import annotations

from collections.abc import Callable


def obey(law: str, attempt: Callable[[], None]) -> None:
    """Raise AssertionError, with the law's sentence and what happened, where the attempt fails."""
    try:
        attempt()
    except AssertionError as exc:
        what = str(exc).partition("\n")[0]
        raise AssertionError(f"{law}: {what}" if what else law) from exc
    except Exception as exc:  # what a plugin raises is its fault, and told
        raise AssertionError(f"{law}: raised {type(exc).__name__}: {exc}") from exc
