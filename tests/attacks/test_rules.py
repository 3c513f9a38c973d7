"""What the sources hold and do not hold, so that no file from elsewhere could make use of it."""

import ast
import re
from pathlib import Path

import jinja2
import pytest

from decodekit.template_sandbox import TemplateSandbox

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("decodekit", "plugins", "export/decodekit_export")
    for path in (ROOT / folder).rglob("*.py")
    if not {"tests", "build", ".venv"} & {*path.relative_to(ROOT).parts}
)
PICKLING = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
EVALUATING = {"eval", "exec", "torch.load", "onnx.hub.load", "yaml.load", "os.system", "torch.hub.load"}


def called(path):
    """Dotted names of what a file calls, with the keywords."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_r6_r7_nothing_is_unpickled_or_evaluated(path):
    assert not PICKLING & {*imported(path)}
    for name, keywords in called(path):
        assert name not in EVALUATING, name
        assert keywords.get("allow_pickle", "False") == keywords.get("weights_only", "False") == "False"
        assert keywords.get("shell", "False") == "False", name


def test_r3_no_option_switches_a_check_off():
    doubtful = re.compile("trust|unsafe|insecure|silent|check|force|remote-code")
    for path in SOURCES:
        options = set(re.findall(r'"(--[a-z-]+)"', path.read_text())) - {
            "--force-resume"
        }  # which trusts nothing
        assert not [option for option in options if doubtful.search(option)], path
        for name, keywords in called(path):
            assert keywords.get("trust_remote_code", "False") == "False", (path, name)
            assert "onnx.hub" not in name, path


def test_r9_templates_run_in_a_sandbox_of_a_version_that_holds():
    assert tuple(map(int, jinja2.__version__.split(".")[:3])) >= (3, 1, 6)
    assert issubclass(TemplateSandbox, jinja2.sandbox.ImmutableSandboxedEnvironment)
    assert TemplateSandbox().loader is None
