"""What a strategy must leave alone: the global state of the process, as a value to compare."""

from __future__ import annotations

import locale
import os
import random
import signal
import threading
from typing import Any

import numpy as np


def surroundings() -> dict[str, Any]:
    """By name: random states, floating-point errors, folder, environment, locale, threads, signals."""
    name, keys, *rest = np.random.get_state()
    return {
        "NumPy's global random state": (name, np.asarray(keys).tobytes(), *rest),
        "Python's global random state": random.getstate(),
        "NumPy's handling of floating-point errors": np.geterr(),
        "the working folder": os.getcwd(),
        "the environment": dict(os.environ),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the threads": frozenset(thread.ident for thread in threading.enumerate()),
        "the handlers of signals": [signal.getsignal(number) for number in sorted(signal.valid_signals())],
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is not as it was. A thread of somebody else may end meanwhile; a new one is a change."""
    return [name for name in before if _new(before[name], after[name])]


def _new(before: Any, after: Any) -> bool:
    return bool(after - before) if isinstance(before, frozenset) else bool(before != after)
