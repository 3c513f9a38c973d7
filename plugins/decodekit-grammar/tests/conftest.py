"""What the tests share: two tokenizers made on the spot, and walks at random under a grammar."""

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from decodekit import Sampler, stream
from decodekit.history import Sequence
from decodekit.processors import Step
from decodekit.strategies.end_tokens import EndTokens
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.testing import TableModel
from decodekit.tokenizer import Tokenizer

TEXTS = [
    '{"name": "Ada", "age": 36, "tags": ["a", "b"], "ok": true, "no": false, "nil": null}',
    '{\n  "name": "Zoë",\n  "when": "2024-02-29T10:00:00Z"\n}',
    "the cat sat on the mat. yes no maybe 12 345 -6.5e7",
    "ça va très bien, 猫が好き 🐈🐈 naïve",
]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """Byte-level BPE, 256 bytes first, special tokens last; several characters lie over several tokens."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(TEXTS * 3, trainer)
    bpe.add_special_tokens(["<|end|>", "<|turn|>", "<think>"])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    bpe.save(str(path))
    return Tokenizer(path, [bpe.token_to_id("<|end|>"), bpe.token_to_id("<|turn|>")])


@pytest.fixture(scope="session")
def spaced(tmp_path_factory):
    """BPE with byte fallback that puts a space before every text, as SentencePiece does."""
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [*"▁abcdefgnmtrueyos{}[]:,0123456789", '"', "▁a", "na", "nam", "name", "tr", "tru", "true"]
    merges = [("▁", "a"), ("n", "a"), ("na", "m"), ("nam", "e"), ("t", "r"), ("tr", "u"), ("tru", "e")]
    vocabulary = {piece: id for id, piece in enumerate(dict.fromkeys(pieces))}
    bpe = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bpe.add_special_tokens(["<unk>", "</s>"])
    path = tmp_path_factory.mktemp("spaced") / "tokenizer.json"
    bpe.save(str(path))
    return Tokenizer(path, [1])


@pytest.fixture(scope="session")
def walk(tokenizer):
    """The text of an answer drawn from random logits under a grammar, and why it ended."""
    rng = np.random.default_rng(0)
    table = (rng.standard_normal((tokenizer.size, tokenizer.size)) * 2).astype(np.float32)
    for mark in '"}],':
        table[:, tokenizer.encode(mark)[0]] += 3.0  # what a text is, is soon over
    table[:, sorted(tokenizer.stop_ids)] += 4.0
    model = TableModel(table)

    def run(grammar, seed=0, most=300, before=(), after=()):
        sampler = Sampler((*before, grammar.bind(tokenizer), *after))
        ends = [EndTokens(tokenizer.stop_ids), MaxNewTokens(most)]
        tokens = list(stream(model, [1], sampler, ends, seed=seed))
        ids = [token.id for token in tokens if token.id not in tokenizer.stop_ids]
        spelled = b"".join(tokenizer.token_bytes[id] for id in ids)
        return spelled, tokens[-1].stop.reason

    return run


@pytest.fixture(scope="session")
def answers(walk):
    """Texts of finished answers, one a seed; most are finished."""

    def run(grammar, count, **options):
        ended = [walk(grammar, seed, **options) for seed in range(count)]
        finished = [text.decode() for text, reason in ended if reason == "stop"]
        assert len(finished) > 0.7 * count, "random answers should seldom run out of room"
        return finished

    return run


@pytest.fixture(scope="session")
def fits(tokenizer, allowed):
    """Whether a text is an answer: at each step the longest allowed token that goes on with it is taken."""
    end = min(tokenizer.stop_ids)

    def check(grammar, text):
        bound, row = grammar.bind(tokenizer), Sequence([1])
        state, left = bound.init(1), text.encode()
        while left:
            ways = [
                id
                for id in allowed(bound, row, state)
                if left.startswith(tokenizer.token_bytes[id] or b"\0\0")
            ]
            if not ways:
                return False
            row.append(max(ways, key=lambda id: len(tokenizer.token_bytes[id])))
            left = left.removeprefix(tokenizer.token_bytes[int(row.history().ids[-1])])
        return end in allowed(bound, row, state)

    return check


@pytest.fixture(scope="session")
def allowed(tokenizer):
    """The ids that a bound grammar allows next."""

    def ask(bound, row, state):
        step = Step.dense((row.history(),), tokenizer.size)
        kept = bound.process(np.zeros((1, tokenizer.size), np.float32), step, state)
        return np.flatnonzero(np.isfinite(kept[0])).tolist()

    return ask
