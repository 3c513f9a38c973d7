"""Tokenizers of the kinds there are, trained on the spot, and strategies that draw them."""

from __future__ import annotations

from pathlib import Path

import tokenizers
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from decodekit.tokenizer import Tokenizer

END = "<|end|>"
MARKS = [END, "<|user|>", "<|assistant|>", "<s>"]


def byte_level(corpus: list[str], size: int = 300, *, begin: bool = False, prefix_space: bool = False):
    """Bytes and the merges of a corpus; with `begin` it puts <s> before a text."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=MARKS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(corpus, trainer)
    if begin:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
        )
    return made


def byte_fallback(corpus: list[str], *, begin: bool = False):
    """As sentencepiece has it: a space is ▁, one stands before the text, unknown characters are bytes."""
    letters = sorted(set("".join(corpus)) - {" "})
    tokens = [*MARKS, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    model = models.BPE(
        vocab={token: id for id, token in enumerate(tokens)},
        merges=[],
        byte_fallback=True,
        unk_token="<0x00>",
    )
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(MARKS)
    if begin:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 3)])
    return made


def saved(made: tokenizers.Tokenizer, folder: Path) -> Tokenizer:
    made.save(str(folder / "tokenizer.json"))
    return Tokenizer(folder / "tokenizer.json")


CORPORA = st.lists(
    st.text(st.characters(codec="ascii", categories=["L", "Zs"]), min_size=1), min_size=1, max_size=5
)
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=20)
TEXTS = st.lists(PLAIN | st.sampled_from([*MARKS, " ", "\n", "é", "猫"]), max_size=4).map("".join)
PIECES = st.sampled_from(["<|user|>", "<|assistant|>", "\n", " ", "### ", "Q: "])
ENDS = st.sampled_from([END, END + "\n", "<|user|>"])


@st.composite
def tokenizers_of_every_kind(draw):
    corpus, begin = draw(CORPORA), draw(st.booleans())
    if draw(st.booleans()):
        return byte_fallback(corpus, begin=begin)
    return byte_level(corpus, draw(st.integers(260, 400)), begin=begin, prefix_space=False)
