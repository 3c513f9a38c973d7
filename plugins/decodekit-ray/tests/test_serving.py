# ruff: noqa: E402 (what may be absent is asked for first)
"""With Ray Serve itself: two replicas on a cluster of this machine, asked by the client of OpenAI."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

ray = pytest.importorskip("ray", reason="needs Ray; make test-ray")
openai = pytest.importorskip("openai", reason="needs openai; make test-ray")
httpx = pytest.importorskip("httpx", reason="needs httpx; make test-ray")

from decodekit_ray.cluster import connect
from decodekit_ray.serving import app
from ray import serve

import decodekit
from decodekit import cli
from decodekit.errors import InputError

KEY = "a key for this test only"
MESSAGES = [{"role": "user", "content": "Give me a tagline for a new coffee shop."}]
LONG = {"max_tokens": 200, "extra_body": {"decodekit": {"ignore_eos": True}}}
pytestmark = pytest.mark.filterwarnings(  # Ray's own
    "ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)


@pytest.fixture(scope="module")
def plugins():
    return decodekit.load_plugins(())


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Of a server with two replicas of each of two models, as a config file of Serve makes it."""
    key_file = tmp_path_factory.mktemp("keys") / "keys"
    key_file.write_text(KEY)
    port = free_port()
    connect("local", 3)
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    args = {
        "bundles": ["tagline", "other=tagline"],
        "key_file": str(key_file),
        "scale": {"least": 2, "most": 2, "cpus": 0.5},
        "limits": {"drain_seconds": 5},
        "load": {"device": "cpu", "threads": 1},
    }
    serve.run(app(args), name="decodekit", route_prefix="/")
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def http(url):
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def plain():
    """The same model behind `decodekit serve`."""
    port = free_port()
    command = [sys.executable, "-m", "decodekit.cli", "serve", "tagline", "--port", str(port), "--quiet"]
    environment = {**os.environ, "DECODEKIT_PLUGINS": "server"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield client
        process.terminate()


@pytest.fixture(scope="module")
def long_answers(plugins):
    """What the SDK gives for long answers, by seed."""
    options = {"max_new_tokens": 200, "ignore_eos": True}
    with decodekit.load("tagline", plugins=plugins, device="cpu") as decoder:
        yield {s: decoder.generate(MESSAGES, "temperature=1", seed=s, **options).text for s in range(40)}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def replicas(model):
    """The actors of a deployment, by name."""
    names = ray.util.list_named_actors(all_namespaces=True)
    found = [n["name"] for n in names if n["name"].startswith(f"SERVE_REPLICA::decodekit#{model}#")]
    return {name: ray.get_actor(name, namespace="serve") for name in found}


def streamed(client, seed, arrived=lambda: None):
    """A long answer, and the chunks it came in."""
    chunks = []
    for chunk in client.chat.completions.create(
        model="tagline", messages=MESSAGES, seed=seed, stream=True, **LONG
    ):
        chunks.append(chunk)
        arrived()
    return "".join(c.choices[0].delta.content or "" for c in chunks), chunks


def whole(client, seed):
    answer = client.chat.completions.create(model="tagline", messages=MESSAGES, seed=seed, **LONG)
    return answer.choices[0].message.content


def test_answers_are_those_of_the_sdk_streamed_or_not(client, long_answers):
    assert whole(client, 1) == streamed(client, 1)[0] == long_answers[1]
    answer = client.completions.create(model="other", prompt="A slogan:", seed=2, max_tokens=5)
    assert answer.model == "other" and answer.usage.completion_tokens <= 5
    assert [model.id for model in client.models.list()] == ["tagline", "other"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": MESSAGES, "seed": 5, "n": 2, "logprobs": True}),
        ("/v1/completions", {"prompt": "A slogan:", "seed": 6, "top_p": 0.9, "max_tokens": 20}),
        ("/v1/responses", {"input": "A slogan.", "decodekit": {"seed": 7}}),
        ("/v1/messages", {"messages": MESSAGES, "max_tokens": 20, "decodekit": {"seed": 8}}),
        ("/v1/score", {"prompt": "A slogan:", "text": " Fresh bread."}),
        ("/tokenize", {"prompt": "A slogan:"}),
    ],
)
def test_answers_are_those_of_decodekit_serve(http, plain, path, fields):
    body, key = {"model": "tagline", **fields}, {"authorization": f"Bearer {KEY}"}
    one, other = (where.post(path, json=body, headers=key).json() for where in (plain, http))
    names = {"id", "created", "created_at"}
    for answer in (one, other):
        for item in answer.get("output", ()):
            del item["id"]
    assert {n: v for n, v in one.items() if n not in names} == {
        n: v for n, v in other.items() if n not in names
    }


def test_a_stream_comes_piece_by_piece(client):
    times = []
    streamed(client, 1, arrived=lambda: times.append(time.monotonic()))
    assert len(times) > 20
    assert sum(later - earlier > 0.005 for earlier, later in pairwise(times)) > 2


@pytest.mark.parametrize("after", [1, 200, 1000])
def test_a_replica_that_is_killed_loses_no_request(client, long_answers, after):
    """24 streams and 8 whole answers at once; one of two replicas dies after so many chunks of all."""
    left, lock, dead = [after], threading.Lock(), []

    def count():
        with lock:
            left[0] -= 1
            if left[0] == 0:
                name, actor = min(replicas("tagline").items())
                ray.kill(actor)
                dead.append(name)

    with ThreadPoolExecutor(32) as pool:
        streams = [pool.submit(streamed, client, seed, count) for seed in range(24)]
        wholes = [pool.submit(whole, client, seed) for seed in range(24, 32)]
        for seed, one in enumerate(streams):
            text, chunks = one.result()
            assert text == long_answers[seed]
            assert len({chunk.id for chunk in chunks}) == 1
            assert [bool(c.choices[0].finish_reason) for c in chunks].count(True) == 1
        assert [one.result() for one in wholes] == [long_answers[seed] for seed in range(24, 32)]
    assert dead
    deadline = time.monotonic() + 60
    while len(replicas("tagline").keys() - set(dead)) < 2:  # Serve puts another in its place
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_keys_hosts_and_bodies_are_guarded_as_by_the_server(http):
    body = {"model": "tagline", "messages": MESSAGES}
    assert http.post("/v1/chat/completions", json=body).status_code == 401
    key = {"authorization": f"Bearer {KEY}"}
    rebound = http.post("/v1/chat/completions", json=body, headers=key | {"host": "evil.example"})
    assert (rebound.status_code, rebound.json()["error"]["code"]) == (403, "E_HOST")
    foreign = http.post("/v1/chat/completions", json=body, headers=key | {"origin": "http://evil.example"})
    assert foreign.json()["error"]["code"] == "E_ORIGIN"
    large = http.post("/v1/chat/completions", content=b" " * (2 << 20), headers=key)
    assert large.status_code == 413
    unknown = http.post("/v1/chat/completions", json=body | {"model": "taglin"}, headers=key)
    assert unknown.status_code == 404 and "did you mean 'tagline'" in unknown.json()["error"]["message"]
    wrong = http.post("/v1/messages", json=body, headers=key)
    assert wrong.status_code == 400 and wrong.json()["type"] == "error"
    assert http.get("/nothing", headers=key).json()["error"]["code"] == "E_NOT_FOUND"
    assert http.get("/v1/completions", headers=key).json()["error"]["code"] == "E_METHOD"
    health = http.get("/health", headers=key).json()
    assert health["status"] == "ok" and set(health["models"]) == {"tagline", "other"}


def test_who_leaves_is_not_decoded_for(client, http):
    stream = client.completions.create(
        model="other", prompt="A", n=100, stream=True, max_tokens=200, extra_body=LONG["extra_body"]
    )
    next(iter(stream))
    stream.close()
    deadline, running = time.monotonic() + 10, 1
    while running:
        assert time.monotonic() < deadline
        health = http.get("/health", headers={"authorization": f"Bearer {KEY}"}).json()
        running = health["models"]["other"]["models"]["other"]["running"]


def test_a_config_file_needs_a_key(monkeypatch):
    monkeypatch.delenv("DECODEKIT_API_KEY", raising=False)
    with pytest.raises(InputError, match="a key is needed"):
        app({"bundles": ["tagline"]})
    monkeypatch.setenv("DECODEKIT_API_KEY", "x" * 20)
    with pytest.raises(InputError, match="bundle is not known"):
        app({"bundle": "tagline"})
    assert app({"bundles": ["tagline"], "scale": {"most": 3}, "host_names": ["llm.example"]})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "a key is needed"),
        (["--ray-replicas", "3:2"], "must be N or N:M"),
        (["--limit", "idle_seconds=3"], "no limit named 'idle_seconds' with Ray"),
        (["--port", "0"], "--port must be in [1, 65535]"),
        (["a b=tagline"], "cannot be a model's name"),
    ],
)
def test_bad_options_are_one_line_and_start_nothing(words, message, capsys, monkeypatch):
    monkeypatch.setenv("DECODEKIT_PLUGINS", "ray")
    monkeypatch.delenv("DECODEKIT_API_KEY", raising=False)
    given = words if "=tagline" in words[0] else ["tagline", *words]
    port = [] if "--port" in words else ["--port", str(free_port())]
    assert cli.main(["serve-ray", *given, *port]) == 2
    assert message in capsys.readouterr().err


def test_a_replica_that_cannot_start_is_one_line_that_says_why():
    words = ["serve-ray", "tagline", "--port", str(free_port()), "--device", "cuda:99"]
    command = [sys.executable, "-m", "decodekit.cli", *words]
    environment = {**os.environ, "DECODEKIT_PLUGINS": "ray"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("error[E_DEVICE]: serve-ray: device 'cuda:99'")


def test_the_command_ends_without_losing_an_answer(long_answers):
    port = free_port()
    words = ["serve-ray", "tagline", "--port", str(port), "--ray-replicas", "2", "--threads", "1"]
    environment = {**os.environ, "DECODEKIT_PLUGINS": "ray"}
    environment.pop("DECODEKIT_API_KEY", None)
    with subprocess.Popen(
        [sys.executable, "-m", "decodekit.cli", *words], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert f"on http://127.0.0.1:{port}, without a key" in process.stdout.readline()
            with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=60) as client:
                begun = []

                def end():
                    begun.append(1)
                    if len(begun) == 5:
                        process.send_signal(signal.SIGTERM)

                assert streamed(client, 3, end)[0] == long_answers[3]
            assert process.wait(60) == 0
        finally:
            process.kill()
