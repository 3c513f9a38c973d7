"""The layers of docs/architecture.md, enforced: a module imports only from layers below its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "decodekit"
LAYERS = [
    {
        "errors",
        "ops",
        "hookspecs",
        "hint",
        "plain_options",
        "meter",
        "memory",
        "strict_json",
        "costs",
        "badge",
        "hardware",
        "watchdog",
    },
    {
        "parameters",
        "history",
        "origin",
        "files",
        "protobuf",
        "json_lines",
        "plugin_choice",
        "badge",
        "messages",
        "template_sandbox",
        "regex_trial",
        "detokenizer",
        "devices",
        "gpu",
    },
    {"progress", "edits", "plugin_choice", "tokenizer", "chat_template"},
    {"script"},
    {"model", "chat", "processors", "stopping", "noise", "onnx_session", "prefix_cache"},
    {"columns", "drawing"},
    {"sampling", "cached_model", "strategies", "slots", "stop_ids", "onnx_schema", "manifest"},
    {"graph_sampling", "companion", "logprobs", "plugins", "onnx_file", "contest", "verdict", "search"},
    {"answer"},
    {"generate", "schema", "graph_check", "positions", "score"},
    {"speculate", "settings", "chain", "decoder_graph", "testing", "new_plugin"},
    {"record", "presets"},
    {"request", "completion", "openai_logprobs", "foreign", "judge"},
    {"places", "text_stream", "bundle"},
    {"batch"},
    {"engine", "preparation", "kv_cache", "device_memory", "adapters", "canary", "footprint"},
    {"steps", "beam", "device_slab", "device_logits", "again", "reading", "gathering", "graph_model"},
    {"slab_slots", "bound_rows"},
    {"onnx_model"},
    {"session", "scorer", "trace_page", "trace_recipe", "trace_step", "first_run"},
    {"trace"},
    {"requests"},
    {"decoder"},
    {"comparison", "doctor", "inspection", "strategies_page", "verify", "loading", "bundle_check", "jobs"},
    {"evaluation"},
    {"console", "replay"},
    {"progress_bars", "comparison_table"},
    {"commands"},
    {"cli", "__init__"},
]
ONLY_HERE = {
    "onnxruntime": {"onnx_session"},
    "pluggy": {"hookspecs", "plugins"},
    "tokenizers": {"tokenizer", "regex_trial"},
    "jinja2": {"chat_template", "template_sandbox"},
    "rich": {"console", "progress_bars", "comparison_table"},
    "pyarrow": {"jobs"},
    "ndonnx": {"graph_sampling"},  # and there in what is loaded with the first graph, see below
    "spox": {"graph_sampling"},
}
NEVER = {"torch", "onnx", "transformers"}
PURE = {"ops", "processors", "noise", "columns", "drawing", "sampling", "strategies", "stopping", "history"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "decodekit":
                yield from (f"decodekit.{alias.name}" for alias in node.names)
            else:
                yield node.module


def layer(module):
    return next(i for i, names in enumerate(LAYERS) if module in names)


def sources():
    return sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    relative = path.relative_to(ROOT)
    module = relative.parts[0].removesuffix(".py")
    for name in imports(path):
        top, _, rest = name.partition(".")
        assert top not in NEVER, f"{relative} imports {top}"
        assert module in ONLY_HERE.get(top, {module}), f"{relative} imports {top}"
        if top == "decodekit" and rest:
            below = rest.split(".")[0]
            assert layer(below) < layer(module) or below == module, f"{relative} imports {name}"


TRACING = ("tracing.py", "parameter.py", "editing.py", "forms.py")


def test_what_traces_is_imported_where_a_graph_is_made():
    for path in (ROOT / "graph_sampling").glob("*.py"):
        tops = {name.partition(".")[0] for name in imports(path)}
        assert path.name in TRACING or not tops & {"ndonnx", "spox"}, path.name


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_layers_know_neither_time_nor_environment_nor_chance(module):
    paths = (
        [ROOT / f"{module}.py"] if (ROOT / f"{module}.py").exists() else list((ROOT / module).glob("*.py"))
    )
    for path in paths:
        assert not set(imports(path)) & {"os", "time", "random", "secrets", "datetime"}, path


def test_every_module_has_a_layer():
    assert {p.relative_to(ROOT).parts[0].removesuffix(".py") for p in sources()} == set().union(*LAYERS)
