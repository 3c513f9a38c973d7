"""What the runtime's tests share: a tokenizer made on the spot, and a decoder over a table of logits."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

import decodekit
from decodekit import cli
from decodekit.bundle import Bundle
from decodekit.decoder import Decoder
from decodekit.plugins import load_plugins
from decodekit.testing import TableModel
from decodekit.tokenizer import Tokenizer

ROOT = Path(__file__).parent.parent
SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXTS = ["the cat sat on the mat. the dog ate the cake!", "ça va très bien, 猫が好き 🐈", "a b c d e f g h"]


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory):
    """A byte-level BPE tokenizer with three special tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="session")
def tokenizer(tokenizer_file):
    return Tokenizer(tokenizer_file)


@pytest.fixture(scope="session")
def plugins():
    return load_plugins(only=())


@pytest.fixture
def make_decoder(tokenizer_file, tokenizer, plugins):
    """A decoder over a table: float [V, V], or the default one of random logits."""

    def make(table=None, *, context_length=10_000, padding=0):
        folder = tokenizer_file.parent
        (folder / "chat_template.jinja").write_text(TEMPLATE)
        (folder / "decodekit.json").write_text("{}")
        if table is None:
            table = np.random.default_rng(1).standard_normal((tokenizer.size + padding,) * 2)
            table = table.astype(np.float32) * 3
        manifest = {
            "name": "table",
            "stop_ids": [tokenizer.id("<|end|>")],
            "context_length": context_length,
            "vocabulary": len(table),
            "chat_template": "chat_template.jinja",
        }
        return Decoder(TableModel(table, context_length), tokenizer, Bundle(folder, manifest), plugins)

    return make


@pytest.fixture
def decoder(make_decoder):
    return make_decoder()


@pytest.fixture(scope="session")
def script(tokenizer):
    """A table after which greedy decoding writes a given text, then the end token."""

    def make(text, start="<|assistant|>"):
        ids = [tokenizer.id(start), *tokenizer.encode_plain(text), tokenizer.id("<|end|>")]
        assert len(set(ids)) == len(ids), "a bigram table cannot repeat a token"
        table = np.zeros((tokenizer.size, tokenizer.size), np.float32)
        for now, then in pairwise(ids):
            table[now, then] = 9.0
        return table

    return make


@pytest.fixture(scope="module")
def tagline():
    """The embedded model, with the built-ins alone."""
    with decodekit.load("tagline", plugins=decodekit.load_plugins(only=())) as decoder:
        yield decoder


@pytest.fixture(scope="session")
def shared():
    """The folder with a pretrained model and real data, where there is one."""
    path = Path(os.environ.get("DECODEKIT_SHARED", ROOT.parent / "shared"))
    if not (path / "models" / "stories260k").is_dir():
        pytest.skip("needs the pretrained test model; set DECODEKIT_SHARED to the folder that holds models/")
    return path


@pytest.fixture
def run(capsys, monkeypatch):
    """Exit status, standard output and standard error of a command line."""
    monkeypatch.setenv("DECODEKIT_PLUGINS", "")

    def call(*words):
        try:
            status = cli.main(list(words))
        except SystemExit as exit:  # argparse ends so
            status = exit.code
        out, err = capsys.readouterr()
        return status, out, err

    return call
