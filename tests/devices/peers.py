"""
Peers on the same weights and the same device, each in a process of its own: one greedy stream.

    python -m devices.peers NAME CHECKPOINT DEVICE DTYPE COUNT     prints one JSON object

One that is not installed, or cannot run there, is left out with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from devices.models import environment

PROMPT = [1, 2, 3]
LIMIT = 3600  # seconds
NEEDS = {"onnxruntime-genai": ("onnxruntime_genai",), "transformers": ("torch", "transformers")}
PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "int4": "int4"}


def measured(name: str, checkpoint: Path, device: str, dtype: str, count: int) -> dict[str, Any]:
    """Tokens a second and versions; or {"absent": why}."""
    missing = [module for module in NEEDS[name] if find_spec(module) is None]
    if missing:
        return {"absent": f"{missing[0]} is not installed"}
    command = [sys.executable, "-m", "devices.peers", name, str(checkpoint), device, dtype, str(count)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, check=False, env=environment()
        )
    except subprocess.TimeoutExpired:
        return {"absent": f"it took longer than {LIMIT} s"}
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        return {"absent": lines[-1][:300]}
    return found


def genai(checkpoint: Path, device: str, dtype: str, count: int) -> float:
    """Seconds of so many tokens, by the generator loop over a graph of its own model builder."""
    import onnxruntime_genai as og
    from onnxruntime_genai.models.builder import create_model

    kind = device.partition(":")[0]
    folder = checkpoint.parent / f"genai-{dtype}-{kind}"
    if not folder.exists():
        part = folder.with_suffix(".part")
        create_model(None, str(checkpoint), str(part), PRECISIONS[dtype], kind, str(folder) + ".cache")
        part.rename(folder)
    config = og.Config(str(folder))
    config.clear_providers()
    if kind == "cuda":
        config.append_provider("cuda")
        config.set_provider_option("cuda", "device_id", device.partition(":")[2] or "0")
    model = og.Model(config)

    def run(tokens: int) -> float:
        params = og.GeneratorParams(model)
        params.set_search_options(
            do_sample=False, max_length=len(PROMPT) + tokens, min_length=len(PROMPT) + tokens
        )
        generator = og.Generator(model, params)
        began = time.perf_counter()
        generator.append_tokens(PROMPT)
        for _ in range(tokens):
            generator.generate_next_token()
            generator.get_next_tokens()
        return time.perf_counter() - began

    return _best(run, count)


def transformers(checkpoint: Path, device: str, dtype: str, count: int) -> float:
    """Seconds of so many tokens, by `generate` with PyTorch's fused attention."""
    import torch
    from transformers import AutoModelForCausalLM

    if dtype not in ("float32", "float16", "bfloat16"):
        raise SystemExit(f"transformers: no {dtype} without other packages")
    kind = getattr(torch, dtype)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=kind, attn_implementation="sdpa")
    model = model.eval().to(device)
    ids = torch.tensor([PROMPT], device=device)

    def run(tokens: int) -> float:
        began = time.perf_counter()
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            pad_token_id=0,
        ).tolist()  # waits for the device
        return time.perf_counter() - began

    return _best(run, count)


def _best(run: Any, count: int) -> float:
    run(2)
    return min(run(count) for _ in range(3))


def main() -> None:
    """In the process of its own."""
    name, checkpoint, device, dtype, count = sys.argv[1:]
    run = {"onnxruntime-genai": genai, "transformers": transformers}[name]
    seconds = run(Path(checkpoint), device, dtype, int(count))
    packages = {"transformers": ("transformers", "torch")}.get(name, (name,))
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:  # as onnxruntime-genai-cuda
            versions[package] = "not said"
    print(json.dumps({"tokens_per_second": int(count) / seconds, "versions": versions}))


if __name__ == "__main__":
    main()
