"""
How long `import decodekit` takes, beside what it cannot avoid.

    python tests/benchmarks/import_time.py [--runs 15]

Fresh processes turn by turn, so that a noisy machine disturbs all alike; medians in seconds.
The last line is what decodekit adds to NumPy and onnxruntime.
"""

import argparse
import statistics
import subprocess
import sys
import time

PROGRAMS = {
    "python": "pass",
    "numpy": "import numpy",
    "numpy + onnxruntime": "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '1'; import numpy, onnxruntime",
    "decodekit": "import decodekit",
    "decodekit + onnxruntime": "import decodekit, decodekit.onnx_model",
    "decodekit.load('tagline')": "import decodekit; decodekit.load('tagline')",
}


def seconds(program: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(runs + 1):
        for name, program in PROGRAMS.items():
            times[name].append(seconds(program))
    medians = {
        name: statistics.median(values[1:]) for name, values in times.items()
    }  # the first warms the disk
    for name, median in medians.items():
        print(f"{name:28} {median:.3f} s")
    added = medians["decodekit + onnxruntime"] - medians["numpy + onnxruntime"]
    print(f"{'added by decodekit':28} {added:.3f} s")


if __name__ == "__main__":
    main()
