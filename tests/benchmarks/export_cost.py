"""
What an export takes: seconds, and the largest memory of its process beside the checkpoint's bytes.

    python tests/benchmarks/export_cost.py CHECKPOINT [-- OPTIONS OF decodekit export]

Ends with status 1 if the process held more than 3.5 times the checkpoint.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MOST = 3.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("options", nargs="*", help="of decodekit export, after --")
    args = parser.parse_args()
    size = sum(file.stat().st_size for file in args.checkpoint.glob("*.safetensors"))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "decodekit.cli", "export", str(args.checkpoint)]
        began = time.monotonic()
        process = subprocess.Popen([*command, "--out", f"{folder}/bundle", *args.options])
        peaks = Peaks(process.pid)
        peaks.start()
        status = process.wait()
        seconds = time.monotonic() - began
        peaks.join()
    ratio = peaks.most / size
    print(
        f"{seconds:.0f} s; at most {peaks.most:,} bytes resident, {ratio:.2f} times the {size:,} of the "
        f"checkpoint; {peaks.own:,} of its own, the rest mapped from files"
    )
    return 1 if status or ratio > MOST else 0


class Peaks(threading.Thread):
    """The most that a process has resident: in all, and not mapped from files."""

    def __init__(self, pid: int) -> None:
        super().__init__()
        self._status = Path(f"/proc/{pid}/status")
        self.most = self.own = 0

    def run(self) -> None:
        while True:
            try:
                lines = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
                self.most = max(self.most, 1024 * int(lines["VmHWM"].split()[0]))
                self.own = max(self.own, 1024 * int(lines["RssAnon"].split()[0]))
            except (OSError, KeyError):  # it has ended
                return
            time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
