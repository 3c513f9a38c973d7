import json
import subprocess
import sys

import decodekit

HEAVY = {"torch", "onnx", "ndonnx", "spox", "onnxscript", "transformers", "optimum", "jinja2", "rich"}


def child(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def test_importing_decodekit_and_every_plugin_imports_nothing_heavy(tmp_path):
    code = "import json, sys, decodekit; decodekit.load_plugins(); print(json.dumps(sorted(sys.modules)))"
    assert HEAVY & {name.partition(".")[0] for name in child(code, tmp_path)} == set()


def test_every_public_name_is_there_and_listed_in_order():
    assert decodekit.__all__ == sorted(decodekit.__all__)
    assert all(hasattr(decodekit, name) for name in decodekit.__all__)
