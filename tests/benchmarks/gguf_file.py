"""
A checkpoint of `checkpoint.py` as llama.cpp reads it, in float32 and in 4 bits.

    python tests/benchmarks/gguf_file.py smol CHECKPOINT FOLDER

Writes f32.gguf and q4_0.gguf. The quantizer is llama.cpp's own, told to quantize every matrix
alike, as the 4-bit folder of onnxruntime-genai's builder does.
"""

import argparse
import ctypes
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from checkpoint import SHAPES, Shape
from safetensors.numpy import load_file

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "model.layers": "blk",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write(shape: Shape, weights: dict[str, np.ndarray], file: Path) -> None:
    """Architecture "llama" without a vocabulary: ids in, ids out."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.mlp)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.theta)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, weight in weights.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            weight = interleaved(weight, shape.head_dim)
        for theirs, ours in NAMES.items():
            name = name.replace(theirs, ours)
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleaved(weight: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows [halves] of each head in the order in which llama.cpp rotates them, in neighbouring pairs."""
    heads = weight.reshape(-1, 2, head_dim // 2, weight.shape[-1])
    return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(weight.shape)


def quantize(file: Path, out: Path) -> None:
    """Q4_0 throughout: 4 bits a weight, one scale for 32."""
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    settings.pure = True
    if llama_cpp.llama_model_quantize(bytes(file), bytes(out), ctypes.byref(settings)):
        raise SystemExit(f"{file}: llama.cpp cannot quantize it")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a checkpoint as GGUF files.")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True)
    write(SHAPES[args.shape], load_file(args.checkpoint / "model.safetensors"), args.folder / "f32.gguf")
    quantize(args.folder / "f32.gguf", args.folder / "q4_0.gguf")


if __name__ == "__main__":
    main()
