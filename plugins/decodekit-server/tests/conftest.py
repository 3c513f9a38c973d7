"""What the tests share: models that write a given text, servers in this process and in one of their own."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from decodekit_server.testing import serving

import decodekit
from decodekit.bundle import Bundle, open_bundle
from decodekit.decoder import Decoder
from decodekit.plugins import load_plugins
from decodekit.testing.table_model import Tokens
from decodekit.tokenizer import Tokenizer

TEMPLATE = (
    "{% if tools %}<|user|>Tools: {{ tools | tojson }}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass
class Scripted:
    """Writes a text behind the last begin of an answer, then the end token; after that, the text again.

    seconds  that a call takes
    """

    script: tuple[int, ...]
    start: int
    vocabulary: int
    seconds: float = 0.0
    context_length: int = 4096
    fault: BaseException | None = None
    calls: int = field(default=0, compare=False)

    def new_cache(self):
        return Tokens()

    def __call__(self, tokens, cache, *, last=1):
        self.calls += 1
        if self.fault is not None:
            raise self.fault
        time.sleep(self.seconds)
        ids = (*cache.ids, *np.asarray(tokens).tolist())
        logits = np.zeros((last, self.vocabulary), np.float32)
        for row in range(last):
            seen = ids[: len(ids) - last + row + 1]
            begin = len(seen) - 1 - seen[::-1].index(self.start) if self.start in seen else 0
            logits[row, self.script[(len(seen) - 1 - begin) % len(self.script)]] = 30.0
        return logits, Tokens(ids)


@pytest.fixture(scope="session")
def plugins():
    return load_plugins()


@pytest.fixture(scope="session")
def scripted(tmp_path_factory, plugins):
    """A decoder that writes a given text, with a chat template that knows tools."""
    tagline = open_bundle("tagline")
    tokenizer = Tokenizer(tagline.tokenizer, tagline.stop_ids)
    folder = tmp_path_factory.mktemp("scripted")
    (folder / "template.jinja").write_text(TEMPLATE)
    (folder / "decodekit.json").write_text("{}")
    manifest = {
        "name": "scripted",
        "stop_ids": sorted(tagline.stop_ids),
        "context_length": 4096,
        "vocabulary": tagline.vocabulary,
        "chat_template": "template.jinja",
    }

    def make(text, seconds=0.0, **engine):
        script = (*tokenizer.encode_plain(text), min(tagline.stop_ids))
        model = Scripted(script, tokenizer.id("<|assistant|>"), tagline.vocabulary, seconds)
        return Decoder(model, tokenizer, Bundle(folder, manifest), plugins, **engine)

    return make


@pytest.fixture(scope="session")
def serve():
    return serving


@pytest.fixture(scope="session")
def tagline(plugins):
    with decodekit.load("tagline", device="cpu", plugins=plugins) as decoder:
        yield decoder


@pytest.fixture(scope="session")
def server(tagline, scripted):
    """One server that most tests share."""
    call = json.dumps({"name": "weather", "arguments": {"city": "Kyiv"}})
    decoders = {
        "tagline": tagline,
        "caller": scripted(f"Let me look.<tool_call>{call}</tool_call>"),
        "slow": scripted("one two three four five six seven eight nine ten " * 20, seconds=0.01),
    }
    with serving(decoders) as running:
        yield running


@pytest.fixture
def http(server):
    with server.client() as client:
        yield client


ASK = [{"role": "user", "content": "Give me a tagline for a new coffee shop."}]


@pytest.fixture(scope="session")
def ask():
    return ASK


@pytest.fixture
def process():
    """Starts `decodekit serve`; its address once it listens."""
    started = []

    def start(*words, **environment):
        run = subprocess.Popen(
            [sys.executable, "-m", "decodekit.cli", "serve", "--port", "0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(run)
        line = run.stdout.readline()
        return run, line.split()[3].rstrip(",") if line else ""

    yield start
    for run in started:
        run.kill()
        run.communicate()
