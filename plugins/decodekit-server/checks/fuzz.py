"""
Schemathesis against the OpenAPI document of a running server: no answer of the 500s, no engine that died.

    python fuzz.py --examples N    about N cases for each operation
    python fuzz.py --seconds S     as many as there is time for
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from decodekit_server.limits import Limits
from decodekit_server.testing import serving

import decodekit

COUNT = re.compile(r'decodekit_requests_total\{route="([^"]*)",status="(\d+)"\} (\S+)')


def fuzz(examples: int, seed: int, seconds: int | None) -> dict[str, int]:
    """Answers by status."""
    limits = Limits(answer_tokens=8, request_tokens=64, queue=64, drain_seconds=0.2)
    with (
        decodekit.load("tagline", device="cpu", max_queue=64) as decoder,
        serving({"tagline": decoder}, limits=limits) as running,
        running.client() as http,
    ):
        words = ["--checks=not_a_server_error", f"--max-examples={examples}", f"--seed={seed}"]
        words += ["--phases=fuzzing", "--continue-on-failure", "--no-shrink", "--warnings=off"]
        words += ["--request-timeout=60", "--generation-database=none", "--suppress-health-check=all"]
        words += [f"--max-time={seconds}"] if seconds else []
        address = f"{running.url}/openapi.json"
        program = Path(sys.executable).with_name("schemathesis")
        with tempfile.TemporaryDirectory() as folder:  # it keeps notes where it runs
            subprocess.run([program, "run", *words, address], check=False, cwd=folder)
        assert http.get("/health").status_code == 200, "the server is not well"
        found: dict[str, int] = {}
        for _, status, count in COUNT.findall(http.get("/metrics").text):
            found[status] = found.get(status, 0) + int(float(count))
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int)
    args = parser.parse_args()
    found = fuzz(args.examples, args.seed, args.seconds)
    bad = {status: count for status, count in found.items() if status.startswith("5")}
    print(f"{sum(found.values()):,} cases, answered {dict(sorted(found.items()))}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
