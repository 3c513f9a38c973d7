"""Clients that leave, readers that do not read, engines that fail, a server that is told to end."""

import json
import os
import random
import signal
import time
from pathlib import Path

import httpx
import pytest
from decodekit_server.answers import Answers
from decodekit_server.limits import Limits

from decodekit.stopping import Stop

DISCONNECTS = int(os.environ.get("DECODEKIT_DISCONNECTS", "20"))
STEP = 0.01  # seconds that a step of the slow model takes


def body(**fields):
    return {"model": "slow", "messages": [{"role": "user", "content": "Count."}], "temperature": 0} | fields


def send(running, **fields):
    """A connection on which a chat was asked for."""
    return running.posted("/v1/chat/completions", body(**fields))


def await_free(engine, others=0, seconds=5.0):
    """Wait until nobody but the others is in the engine."""
    deadline = time.monotonic() + seconds
    while engine.running + engine.waiting > others:
        assert time.monotonic() < deadline, "a place was not freed"
        time.sleep(0.001)


@pytest.fixture
def steps(monkeypatch):
    """Of each answer that was cancelled: the engine's steps between the server's word and the end."""
    found, cancel, put = [], Answers.cancel, Answers._put

    def noting_cancel(self):
        meter = self.job.served.decoder.engine.meter
        self.cancelled_at = meter.steps
        cancel(self)
        self.cancelled_at = meter.steps  # this thread may have waited for its turn

    def noting_put(self, index, watch, event):
        if isinstance(event, Stop) and event.reason == "cancelled":
            found.append(self.job.served.decoder.engine.meter.steps - self.cancelled_at)
        put(self, index, watch, event)

    monkeypatch.setattr(Answers, "cancel", noting_cancel)
    monkeypatch.setattr(Answers, "_put", noting_put)
    return found


def test_who_leaves_frees_the_place_within_a_step(server, steps):
    """In all phases: while it waits, while the prompt is read, before and between tokens."""
    engine, rng = server.decoder("slow").engine, random.Random(1)
    neighbour = send(server, stream=True, max_tokens=4000)  # keeps the engine at work
    try:
        time.sleep(0.2)
        for i in range(DISCONNECTS):
            content = "Count to twenty. " * rng.choice([1, 1, 20])
            messages = [{"role": "user", "content": content}]
            connection = send(server, stream=bool(i % 2), n=rng.choice([1, 2]), messages=messages)
            time.sleep(rng.random() * 12 * STEP)
            connection.close()
            await_free(engine, others=1)
    finally:
        neighbour.close()
    await_free(engine)
    assert len(steps) > DISCONNECTS // 2 and max(steps) <= 1
    print(f"{DISCONNECTS} disconnects, {len(steps)} answers cancelled, at most {max(steps)} step until free")


def test_who_leaves_while_scoring_is_not_waited_for(server):
    body = {"model": "tagline", "text": "word " * 9000, "stride": 20}
    with server.posted("/v1/score", body):
        time.sleep(0.1)
    deadline = time.monotonic() + 5
    while server.app.desk.metrics.open._value.get():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_leaves_the_queue_disturbs_nobody(serve, scripted, steps):
    decoder = scripted("one two three four five " * 50, seconds=STEP, max_rows=1)
    with serve({"slow": decoder}) as running, running.client() as http:
        engine = decoder.engine
        with http.stream("POST", "/v1/chat/completions", json=body(stream=True, max_tokens=60)) as answer:
            lines = answer.iter_lines()
            next(lines)
            queued = send(running)
            while not engine.waiting:
                time.sleep(0.001)
            queued.close()
            await_free(engine, others=1)
            assert steps  # it was told, a queue is looked through at times
            text = [line for line in lines if line]
        assert text[-1] == "data: [DONE]" and '"finish_reason":"length"' in text[-2]


def test_of_many_at_once_none_is_lost(serve, scripted):
    limits = Limits(queue=16, drain_seconds=0.1)
    with serve({"slow": scripted("one two three", max_queue=16)}, limits=limits) as running:
        connections = [send(running) for _ in range(300)]
        statuses = []
        for connection in connections:
            connection.settimeout(20)
            with connection:
                statuses.append(int(connection.recv(65536).split(b" ", 2)[1]))
        assert set(statuses) <= {200, 429} and statuses.count(200) >= 16
        await_free(running.decoder("slow").engine)


def test_a_reader_that_does_not_read_is_cut(serve, scripted):
    limits = Limits(write_seconds=0.5, drain_seconds=0.1)
    asked = body(stream=True, n=16, logprobs=True, top_logprobs=20, decodekit={"ignore_eos": True})
    with (
        serve({"slow": scripted("word " * 50)}, limits=limits) as running,
        running.posted("/v1/chat/completions", asked, received=4096),
    ):
        engine, deadline = running.decoder("slow").engine, time.monotonic() + 20
        while not engine.running:
            time.sleep(0.01)
        while engine.running:
            assert time.monotonic() < deadline, "the answer is written to nobody"
            time.sleep(0.05)
        assert engine.meter.tokens < 16 * 4000


def test_a_full_queue_is_a_429(serve, scripted):
    limits = Limits(queue=2, drain_seconds=0.1)
    decoder = scripted("one two three four five " * 50, seconds=STEP, max_rows=1, max_queue=2)
    with serve({"slow": decoder}, limits=limits) as running, running.client() as http:
        held = [send(running, max_tokens=100) for _ in range(3)]
        time.sleep(0.3)
        answer = http.post("/v1/chat/completions", json=body())
        assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
        assert answer.json()["error"]["code"] == "E_QUEUE_FULL"
        assert http.get("/ready").json() == {"status": "full"}
        for connection in held:
            connection.close()


def test_a_time_limit_keeps_the_text(http):
    answer = http.post("/v1/chat/completions", json=body(decodekit={"max_time": 0.2})).json()
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length" and choice["message"]["content"].startswith("one two")
    assert answer["decodekit"]["choices"][0]["finish_reason"] == "time"


class Killed(BaseException):
    """What ends a thread."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_engine_is_told_to_everybody(serve, scripted, monkeypatch):
    decoder = scripted("one two three four five " * 50, seconds=STEP)
    with serve({"slow": decoder}) as running, running.client() as http:
        assert http.get("/health").status_code == 200 and http.get("/ready").status_code == 200
        with http.stream("POST", "/v1/chat/completions", json=body(stream=True)) as answer:
            lines = answer.iter_lines()
            next(lines)
            began = time.monotonic()

            def die():
                raise Killed

            monkeypatch.setattr(decoder.engine._batch, "turn", die)
            monkeypatch.setattr(decoder.engine._batch, "fail", lambda error: die())
            *_, last = [line for line in lines if line]
        assert time.monotonic() - began < 5
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "E_ENGINE"
        health = http.get("/health")
        assert health.status_code == 503 and "slow" in health.json()["failed"]
        assert http.get("/ready").status_code == 503
        assert time.monotonic() - began < 5
        assert http.post("/v1/chat/completions", json=body()).status_code in (500, 503)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_with_a_dead_engine_the_server_ends(serve, scripted, monkeypatch):
    from decodekit_server import server

    monkeypatch.setattr(server, "LINGER", 0.1)
    decoder = scripted("one two three")
    with serve({"slow": decoder}) as running, running.client() as http:
        monkeypatch.setattr(decoder.engine, "_turn", lambda: 1 / 0)
        assert http.post("/v1/chat/completions", json=body()).status_code == 500
        deadline = time.monotonic() + 5
        while not running.server.failed:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_failing_model_fails_requests_and_not_the_server(serve, scripted):
    decoder = scripted("one two three four five " * 50, seconds=STEP)
    with serve({"slow": decoder}) as running, running.client() as http:
        decoder.model.fault = MemoryError("no room")
        assert http.post("/v1/chat/completions", json=body()).json()["error"]["code"] == "E_ENGINE"
        decoder.model.fault = None
        assert http.post("/v1/chat/completions", json=body(max_tokens=2)).status_code == 200


def listening(pid):
    """Sockets of a process that listen, on Linux."""
    inodes = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if os.path.lexists(entry)}
    lines = [
        line.split()
        for name in ("tcp", "tcp6", "udp", "udp6")
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return [f for f in lines if f"socket:[{f[9]}]" in inodes and f[3] in ("0A", "07")]


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="looks at sockets in /proc")
def test_told_to_end_it_lets_answers_end(process):
    run, url = process("tagline", "--limit", "drain_seconds=10")
    ask = {
        "model": "tagline",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
        "max_tokens": 200,
    }
    ask["decodekit"] = {"ignore_eos": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=ask, trust_env=False, timeout=20) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert len(listening(run.pid)) == 1
        run.send_signal(signal.SIGTERM)
        text = list(lines)
    assert text[-2] == "data: [DONE]"
    assert run.wait(10) in (0, -signal.SIGTERM)


def test_what_does_not_end_in_time_ends_with_an_error(serve, scripted):
    with (
        serve({"slow": scripted("one two " * 50, seconds=STEP)}, limits=Limits(drain_seconds=0.3)) as running,
        running.client() as http,
        http.stream(
            "POST", "/v1/chat/completions", json=body(stream=True, decodekit={"ignore_eos": True})
        ) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        running.server.should_exit = True
        *_, last = [line for line in lines if line]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "E_CLOSED"


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (["tagline", "--host", "0.0.0.0"], 2, "a key is needed"),
        (["nothing"], 2, "no such folder"),
        (["a=tagline", "a=tagline"], 2, "given twice"),
        (["a/b=tagline"], 2, "cannot be a model's name"),
        (["tagline", "--limit", "bytes=1"], 2, "no limit named 'bytes'"),
        (["tagline", "--limit", "queue=-1"], 2, "queue must be in [0, inf)"),
        (["tagline", "--port", "99999"], 2, "--port must be in [0, 65535], got 99999"),
        (["tagline", "--port", "-1"], 2, "--port must be in [0, 65535], got -1"),
        (["tagline", "--rows", "0"], 2, "max_rows must be in [1, inf), got 0"),
    ],
)
def test_what_cannot_be_served_is_refused(capsys, words, status, why, monkeypatch):
    from decodekit import cli

    monkeypatch.delenv("DECODEKIT_API_KEY", raising=False)
    assert cli.main(["serve", "--port", "0", *words]) == status
    assert why in capsys.readouterr().err


def test_a_port_that_is_taken_is_refused(capsys, server):
    from decodekit import cli

    assert cli.main(["serve", "tagline", "--port", str(server.port)]) == 2
    assert "choose another --host or --port" in capsys.readouterr().err


def test_counts_are_told(http, ask):
    http.post("/v1/chat/completions", json={"model": "tagline", "messages": ask})
    text = http.get("/metrics").text
    assert 'decodekit_requests_total{route="/v1/chat/completions",status="200"}' in text
    assert 'decodekit_engine_steps_total{model="tagline"}' in text
    labels = [line for line in text.splitlines() if "route=" in line]
    assert all('route="/' in line or 'route="none"' in line for line in labels)
