"""
Model folders made by others, described as bundles.

Three layouts are known: what optimum exports, what the model builder of onnxruntime-genai
writes, and ONNX folders as they stand on the hub, with graphs in `onnx/`. What a manifest would
say is read off the graph and the configurations; where two of them disagree, that is an error.
Configurations give numbers and the names of tokens: nothing in a folder is imported, run or
fetched, whatever they say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from decodekit.chat import Chat
from decodekit.decoder_graph import Said, describe_decoder
from decodekit.errors import BundleError, TemplateError
from decodekit.files import read_json, read_template, regular_file
from decodekit.graph_check import check_graph_file, external_files
from decodekit.onnx_file import OnnxFile
from decodekit.stop_ids import named_ids
from decodekit.tokenizer import Tokenizer

GENAI = "genai_config.json"
TOKENIZER = "tokenizer.json"
CONFIGS = (GENAI, "config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
TEMPLATES = ("chat_template.jinja", "tokenizer_config.json", "chat_template.json")
GRAPHS = ("model.onnx", "onnx/model.onnx", "decoder_model_merged.onnx", "onnx/decoder_model_merged.onnx")

Configs = Mapping[str, Mapping[str, Any]]  # by file name

_KEYS = {  # what configurations call the numbers of a manifest
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "kv_heads": ("num_key_value_heads", "num_attention_heads", "n_head"),
    "head_dim": ("head_size", "head_dim"),
    "vocabulary": ("vocab_size",),
    "context_length": ("context_length", "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
}


def describe_folder(path: Path) -> tuple[Path, dict[str, Any]]:
    """The folder, and the manifest it would have; BundleError if it cannot be decoded, or not safely.

    path  the folder, or one of its graphs
    """
    folder, graph = _locate(path)
    regular_file(folder, graph, "it is the graph")
    configs = {name: _config(folder, name) for name in CONFIGS if (folder / name).exists()}
    if not {GENAI, "config.json"} & configs.keys():
        raise BundleError(
            f"{folder}: no decodekit.json, {GENAI} or config.json says what the model is; "
            "copy the folder again, or write a bundle with `decodekit export`"
        )
    said = _said(configs)
    if "context_length" not in said:
        raise BundleError(f"{folder}: no context length; set max_position_embeddings in config.json")
    file = check_graph_file(folder / graph)
    described = describe_decoder(file, said)
    described["graph"]["file"] = graph

    tokenizer = _tokenizer(folder)
    template = next((name for name in TEMPLATES if _has_template(folder, name)), None)
    stops, unread = _stop_ids(folder, configs, tokenizer, template)
    data = [(Path(graph).parent / name).as_posix() for name in external_files(file)]
    used = {graph, *data, TOKENIZER, *configs, *([template] if template else [])}
    return folder, {
        "name": _name(folder, graph),
        "origin": "onnxruntime-genai" if GENAI in configs else "hub" if "/" in graph else "optimum",
        "missing": [*_missing(described["graph"], template), *unread],
        **described,
        "architecture": _architecture(configs),
        "dtype": described["graph"]["cache"]["dtype"],
        "storage": _storage(file),
        "context_length": said["context_length"][0],
        "stop_ids": stops,
        "tokenizer": TOKENIZER,
        "chat_template": template,
        "made_by": dict(file.producer),
        "files": {name: {"size": (folder / name).stat().st_size} for name in sorted(used)},
    }


def _locate(path: Path) -> tuple[Path, str]:
    """The folder with the configurations, and the graph by a name relative to it."""
    if not path.is_dir():
        return _place(path)
    if (path / GENAI).exists():
        name = _top(GENAI, _config(path, GENAI)).get("filename")
        if not isinstance(name, str):
            raise BundleError(
                f"{path / GENAI}: no model.decoder.filename; a model of several graphs is not decoded"
            )
        return path, name
    for name in GRAPHS:
        if (path / name).exists():
            return _place(path / name)
    graphs = sorted(p.relative_to(path).as_posix() for p in (*path.glob("*.onnx"), *path.glob("*/*.onnx")))
    if graphs:
        raise BundleError(f"{path}: no model.onnx; give one of its graphs by path: {graphs}")
    raise BundleError(
        f"{path}: no model, it has neither decodekit.json nor an .onnx file; "
        "write a bundle with `decodekit export`"
    )


def _place(graph: Path) -> tuple[Path, str]:
    folder = graph.parent
    if folder.name == "onnx" and not (folder / TOKENIZER).exists():  # as on the hub
        folder = folder.parent
    return folder, graph.relative_to(folder).as_posix()


def _config(folder: Path, name: str) -> dict[str, Any]:
    regular_file(folder, name, "it describes the model")
    return read_json(folder / name)


def _top(name: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration with what it says at its top; that of onnxruntime-genai says it one level down."""
    if name != GENAI:
        return config
    model = config.get("model")
    model = model if isinstance(model, dict) else {}
    decoder = model.get("decoder")
    return {**(decoder if isinstance(decoder, dict) else {}), **model}


def _said(configs: Configs) -> Said:
    """What the configurations say in numbers; onnxruntime-genai's comes first."""
    said: dict[str, tuple[int, str]] = {}
    for file in (name for name in (GENAI, "config.json") if name in configs):
        config = _top(file, configs[file])
        for what, keys in _KEYS.items():
            if what == "kv_heads" and config.get("multi_query"):  # then there are fewer than it names
                continue
            found = [(config[key], f"{key} of {file}") for key in keys if type(config.get(key)) is int]
            if found and found[0][0] > 0:
                said.setdefault(what, found[0])
    return said


def _tokenizer(folder: Path) -> Tokenizer:
    if not (folder / TOKENIZER).exists():
        raise BundleError(
            f"{folder}: no tokenizer.json; write one with transformers: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    regular_file(folder, TOKENIZER, "it has the model's tokens")
    return Tokenizer(folder / TOKENIZER)


def _has_template(folder: Path, name: str) -> bool:
    if not (folder / name).exists():
        return False
    regular_file(folder, name, "it may have the chat template")
    return read_template(folder / name) is not None


def _stop_ids(
    folder: Path, configs: Configs, tokenizer: Tokenizer, template: str | None
) -> tuple[list[int], list[str]]:
    """Every token that a configuration or the template ends an answer with; and what could not be read."""
    found: set[int] = set()
    unread = []
    for name, config in configs.items():
        try:
            found |= named_ids(_top(name, config), tokenizer)
        except ValueError as exc:
            raise BundleError(f"{folder / name}: {exc}") from exc
    try:
        found |= {*Chat(tokenizer, template and read_template(folder / template), stop_id=None).end}
    except TemplateError as exc:
        unread.append(f"the token that ends an answer in the chat template ({exc})")
    if not found:
        raise BundleError(
            f"{folder}: no configuration names a token that ends a text, so no answer would end; "
            "add eos_token_id to generation_config.json"
        )
    return sorted(found), unread


def _name(folder: Path, graph: str) -> str:
    stem = Path(graph).stem
    return folder.resolve().name + ("" if stem == "model" else f".{stem}")


def _architecture(configs: Configs) -> str:
    listed = configs.get("config.json", {}).get("architectures")
    named = (
        listed[0] if isinstance(listed, list) and listed else _top(GENAI, configs.get(GENAI, {})).get("type")
    )
    return named if isinstance(named, str) else "not said"


def _storage(file: OnnxFile) -> str:
    """How weights are kept, by the operators that read them."""
    nodes = list(file.every_node())
    if bits := {node.attributes.get("bits", 4) for node in nodes if node.operator == "MatMulNBits"}:
        return f"blocks of {min(bits)}-bit integers"
    if any(node.operator in ("MatMulInteger", "DynamicQuantizeMatMul", "DequantizeLinear") for node in nodes):
        return "8-bit integers"
    return "they are"


def _missing(graph: Mapping[str, Any], template: str | None) -> Iterator[str]:
    """What a bundle of `decodekit export` has and this folder has not."""
    yield (
        "a comparison with PyTorch: nobody measured whether the graph computes what the model did; "
        "`decodekit export CHECKPOINT --out BUNDLE` does, and gives all of this"
    )
    yield "hashes of its files: a change goes unnoticed; keep sums beside them, or export"
    if graph["cache"]["kind"] != "in_place":
        yield "an in-place cache: each step copies all keys and values; export with --cache in_place"
    if "logit_positions" not in graph["inputs"]:
        yield ("an input logit_positions: logits are computed for every token of a prompt, not for the last")
    if graph["positions"] == "unknown":
        yield "positions by row: prompts run one by one, not in one call; export with an input position_ids"
    if template is None:
        yield "a chat template: a prompt is continued as it is; put the model's into chat_template.jinja"
