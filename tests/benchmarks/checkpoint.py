"""
A checkpoint with random weights in the shape of a real model, the one source of every engine's model.

    python tests/benchmarks/checkpoint.py smol FOLDER

A Llama as transformers writes it. The weights are seeded, so two machines measure the same
model. The end token's embedding is zero and embeddings are tied: its logit is 0 where the
best of the others is far above, so no greedy text ends before it is asked to. Every token is
plain ASCII, so every token is a piece of text.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, models, pre_tokenizers

SEED = 7
SCALE = 0.04  # standard deviation of a weight: layers outweigh the embedding, so a text is no echo
END = "<|end|>"  # the last id


@dataclass(frozen=True)
class Shape:
    """What the weights' shapes follow from."""

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    mlp: int
    context: int = 8192
    theta: float = 100_000.0
    epsilon: float = 1e-5
    attention: float = 1.0  # scales what attention adds; 0: the next token follows from the last alone

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(size)) for size in self.sizes().values())

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Every weight's name and shape, [out, in]."""
        kv = self.kv_heads * self.head_dim
        sizes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}"
            sizes |= {
                f"{prefix}.input_layernorm.weight": (self.hidden,),
                f"{prefix}.self_attn.q_proj.weight": (self.hidden, self.hidden),
                f"{prefix}.self_attn.k_proj.weight": (kv, self.hidden),
                f"{prefix}.self_attn.v_proj.weight": (kv, self.hidden),
                f"{prefix}.self_attn.o_proj.weight": (self.hidden, self.hidden),
                f"{prefix}.post_attention_layernorm.weight": (self.hidden,),
                f"{prefix}.mlp.gate_proj.weight": (self.mlp, self.hidden),
                f"{prefix}.mlp.up_proj.weight": (self.mlp, self.hidden),
                f"{prefix}.mlp.down_proj.weight": (self.hidden, self.mlp),
            }
        return sizes | {"model.norm.weight": (self.hidden,)}


SMOL = Shape(vocabulary=49_152, hidden=576, layers=30, heads=9, kv_heads=3, mlp=1536)  # SmolLM2-135M's
SHAPES = {
    "smol": SMOL,
    "loop": replace(SMOL, attention=0.0),  # its greedy text soon goes round in a circle
    "midv": Shape(vocabulary=49_152, hidden=64, layers=2, heads=4, kv_heads=2, mlp=128),
    "qwen": Shape(  # Qwen2.5-1.5B's, but for its biases
        vocabulary=151_936, hidden=1536, layers=28, heads=12, kv_heads=2, mlp=8960, theta=1_000_000.0
    ),
    "tiny": Shape(vocabulary=600, hidden=64, layers=2, heads=4, kv_heads=2, mlp=128, context=512),
    "bigv": Shape(vocabulary=151_936, hidden=64, layers=2, heads=4, kv_heads=2, mlp=128),
}


def weights(shape: Shape) -> dict[str, np.ndarray]:
    """Every weight, float32, [out, in]."""
    rng = np.random.default_rng(SEED)
    drawn = {}
    for name, size in shape.sizes().items():
        noise = rng.standard_normal(size, np.float32) * SCALE
        drawn[name] = noise + 1 if len(size) == 1 else noise
        if name.endswith("o_proj.weight"):
            drawn[name] *= shape.attention
    drawn["model.embed_tokens.weight"][-1] = 0
    return drawn


def config(shape: Shape) -> dict[str, object]:
    """What transformers 4 and 5 both read."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.theta},
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": shape.vocabulary - 1,
        "torch_dtype": "float32",
    }


def tokenizer(shape: Shape) -> tokenizers.Tokenizer:
    """The bytes, then words that no text is encoded to; ids are what engines are given."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [f"\u0120{i}" for i in range(len(alphabet), shape.vocabulary - 1)]  # \u0120 spells a space
    vocabulary = {token: id for id, token in enumerate([*alphabet, *words, END])}
    made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([END])
    return made


def write(shape: Shape, folder: Path) -> None:
    """The checkpoint, into a new folder."""
    folder.mkdir(parents=True)
    save_file(weights(shape), folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer(shape).save(str(folder / "tokenizer.json"))
    for name, content in (
        ("config.json", config(shape)),
        ("generation_config.json", {"eos_token_id": shape.vocabulary - 1}),
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}),
    ):
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a checkpoint with random weights.")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    write(SHAPES[args.shape], args.folder)


if __name__ == "__main__":
    main()
