"""Clients that leave, readers that do not read, engines that fail, a server that is told to end."""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from decodekit_server.answers import Answers
from decodekit_server.limits import Limits

from decodekit.errors import DeviceError
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


def test_a_time_limit_holds_in_the_queue_too(serve, scripted):
    decoder = scripted("one two three four five " * 50, seconds=STEP, max_rows=1)
    with serve({"slow": decoder}) as running, running.client() as http:
        with send(running, max_tokens=400):
            while not decoder.engine.running:
                time.sleep(0.001)
            began = time.monotonic()
            answer = http.post("/v1/chat/completions", json=body(decodekit={"max_time": 0.2})).json()
            assert 0.2 <= time.monotonic() - began < 2
        assert answer["choices"][0]["message"]["content"] == ""
        assert answer["decodekit"]["choices"][0]["finish_reason"] == "time"


def test_a_reader_of_small_bites_gets_all(serve, scripted):
    """Its window is full most of the time; what it is sent waits for it."""
    asked = body(stream=True, n=4, max_tokens=100, logprobs=True, top_logprobs=20)
    with (
        serve({"slow": scripted("word " * 120)}) as running,
        running.posted("/v1/chat/completions", asked, received=2048) as connection,
    ):
        connection.settimeout(10)
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(1000)
            time.sleep(0.0005)
        assert received.count(b'"delta":{},') == 4 and b"data: [DONE]\n\n" in received
        assert len(received) > 400_000


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
        answer = http.post("/v1/chat/completions", json=body())
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "E_ENGINE")


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
    assert run.wait(10) == -signal.SIGTERM


@pytest.fixture
def hangs_up():
    """SIGHUP as a terminal has it, whatever `nohup` left of it for those that are started here."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangs_up")
def test_a_hundred_streams_end_by_word_where_the_terminal_closes(process):
    """Some come to their end in the time left, the others are told; none just stops."""
    run, url = process("tagline", "--rows", "8", "--limit", "drain_seconds=0.5")
    prompts = [
        {"model": "tagline", "prompt": [300 + i], "stream": True, "max_tokens": 250} for i in range(100)
    ]

    async def read(client, asked):
        asked["decodekit"] = {"ignore_eos": True}
        async with client.stream("POST", f"{url}/v1/completions", json=asked) as answer:
            if answer.status_code != 200:
                return (await answer.aread()).decode()
            return [line async for line in answer.aiter_lines() if line][-1]

    async def all_of_them():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(trust_env=False, timeout=30, limits=limits) as client:
            reading = [asyncio.create_task(read(client, asked)) for asked in prompts]
            await asyncio.sleep(0.5)
            run.send_signal(signal.SIGHUP)
            return await asyncio.gather(*reading)

    ends = [
        json.loads(end.removeprefix("data: ")) if "{" in end else end for end in asyncio.run(all_of_them())
    ]
    ends = [end if isinstance(end, str) else end["error"]["code"] for end in ends]
    assert set(ends) <= {"data: [DONE]", "E_CLOSED", "E_DRAINING"} and "E_CLOSED" in ends
    assert run.wait(10) == -signal.SIGTERM


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_what_is_killed_starts_again_and_endless_bodies_take_no_memory(process):
    run, url = process("tagline")
    port = url.rpartition(":")[2]
    with socket.create_connection(("127.0.0.1", int(port))):
        run.kill()
        run.wait(10)
        run, url = process("tagline", "--port", port)
    assert httpx.get(f"{url}/ready", trust_env=False).status_code == 200

    def resident():
        lines = Path(f"/proc/{run.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) >> 10  # MiB

    before, chunk = resident(), b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    for _ in range(40):
        with (
            socket.create_connection(("127.0.0.1", int(port)), timeout=5) as connection,
            suppress(ConnectionError),
        ):
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            for _ in range(64):
                connection.sendall(chunk)
    assert resident() - before < 32


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of this kind")
def test_open_files_are_allowed_for_all_connections(capsys):
    import resource

    from decodekit_server.server import allow_files

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        allow_files(1000)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1128
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    words = f"ulimit -n 512; exec '{sys.executable}' -m decodekit.cli serve tagline --port 0"
    run = subprocess.run(["sh", "-c", words], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and "ulimit -n 1152), or give --limit connections=384" in run.stderr


def test_a_port_of_privileged_programs_is_told(monkeypatch):
    from decodekit_server import server

    def refuse(*words, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(server.socket, "create_server", refuse)
    with pytest.raises(
        DeviceError, match=r"port 80 is for privileged programs; choose --port 1024 or higher"
    ):
        server.listen("127.0.0.1", 80)


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
