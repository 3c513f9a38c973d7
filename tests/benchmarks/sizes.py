"""
What each size of a bundle costs: bytes, and what the model says of a text, beside PyTorch in float32.

    python tests/benchmarks/sizes.py CHECKPOINT LINES.jsonl [--key question] [--last 200]

Exports the checkpoint in every size to a temporary folder and prints a table in Markdown.
"""

import argparse
import json
import tempfile
from pathlib import Path

from decodekit_export.bundle import export_bundle
from decodekit_export.cache import CacheShape
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.precision import Precision
from decodekit_export.quality import Text, compare
from decodekit_export.quantization import Quantization
from decodekit_export.reference import Reference

SIZES = {
    "float32": {},
    "float16": {"precision": Precision("float16")},
    "int8, blocks of 32": {"quantization": Quantization("int8")},
    "int8, asymmetric": {"quantization": Quantization("int8", symmetric=False)},
    "int4, blocks of 32": {"quantization": Quantization("int4")},
    "int4, blocks of 16": {"quantization": Quantization("int4", 16)},
    "int4, asymmetric": {"quantization": Quantization("int4", symmetric=False)},
    "int4, head and embedding kept": {
        "quantization": Quantization("int4", keep=("lm_head", "*embed_tokens"))
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("lines", type=Path)
    parser.add_argument("--key", default="question")
    parser.add_argument("--last", type=int, default=200, metavar="N", help="lines to read, from the end")
    args = parser.parse_args()
    rows = args.lines.read_text(encoding="utf-8").splitlines()[-args.last :]
    lines = "\n".join(json.loads(row)[args.key] for row in rows)
    source = open_checkpoint(args.checkpoint)
    reference = Reference(source.load_model())
    print("| | bytes | perplexity | beside PyTorch | divergence, nats | same best token |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, options) in enumerate(SIZES.items()):
            bundle = export_bundle(args.checkpoint, Path(folder) / f"size{number}", prompts=4, **options)
            text = Text.of(source.tokenizer.encode(lines), "lines", bundle.context_length)
            cache = bundle.cache
            shape = CacheShape(cache.layers, cache.kv_heads, cache.head_dim, cache.dtype)
            q = compare(reference, text, bundle.graph, cache.kind, shape)
            before, after = q.perplexity
            size = sum(entry["size"] for name, entry in bundle.manifest["files"].items() if "model" in name)
            print(
                f"| {name} | {size:,} | {after:.4f} | {after - before:+.1e} | {q.divergence:.1e} "
                f"| {q.agreement:.2%} |",
                flush=True,
            )
        print(f"\n{q.tokens:,} tokens of {len(rows)} lines; PyTorch in float32: {before:.4f}")


if __name__ == "__main__":
    main()
