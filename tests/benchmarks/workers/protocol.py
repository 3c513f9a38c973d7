"""
The conversation with a worker: a JSON command a line on stdin, a JSON answer a line on stdout.

A worker is a process that keeps one engine with one model. It computes while it answers and
waits on stdin otherwise, so several workers can stay alive and be asked turn by turn. A
command names a method and its arguments; what goes wrong is an answer too.
"""

import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path

THREADS = 2  # of every engine


class Worker:
    """What every worker can be asked. An engine adds `load`, `stream` and perhaps more."""

    packages: tuple[str, ...] = ()  # whose versions matter

    def versions(self):
        return {name: metadata.version(name) for name in self.packages}

    def memory(self):
        """Bytes of this process: resident now, and the most there were."""
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        now, peak = (int(fields[name].split()[0]) << 10 for name in ("VmRSS", "VmHWM"))
        return {"now": now, "peak": peak}

    def stream_and_memory(self, prompt, tokens):
        self.stream(prompt, tokens)
        return self.memory()


def serve(worker):
    """Answer commands until stdin ends. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(worker, command.pop("do"))(**command) or {}
        except Exception as error:  # engines raise their own kinds
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        print(json.dumps(answer), file=answers, flush=True)


def clocked(tokens):
    """The tokens of an iterator, the seconds up to the first, and those from the first to the last."""
    began = time.perf_counter()
    tokens = iter(tokens)
    ids = [next(tokens)]
    first = time.perf_counter()
    ids += tokens
    return {"prefill": first - began, "decode": time.perf_counter() - first, "ids": ids}
