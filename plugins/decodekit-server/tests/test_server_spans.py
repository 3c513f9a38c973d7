"""Spans of requests: told where asked for, with names and numbers alone."""

import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SECRET = "coffee"


@pytest.fixture(scope="module")
def otel():
    return pytest.importorskip(
        "opentelemetry.sdk.trace", reason="spans need OpenTelemetry: decodekit-server[otel]"
    )


@pytest.fixture(scope="module")
def memory(otel):
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    return InMemorySpanExporter()


@pytest.fixture(scope="module")
def traced(serve, otel, memory, tagline, scripted):
    from decodekit_server.spans import Spans
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = otel.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    slow = scripted("one two three four five " * 50, seconds=0.01)
    with serve({"tagline": tagline, "slow": slow}, telemetry=Spans(provider)) as running:
        yield running


@pytest.fixture
def http(traced, memory):
    memory.clear()
    with traced.client() as http:
        yield http


def spans(memory, count, seconds=5.0):
    """Those that ended, the request's last."""
    deadline = time.monotonic() + seconds
    while len(found := memory.get_finished_spans()) < count:
        assert time.monotonic() < deadline, [span.name for span in found]
        time.sleep(0.01)
    assert len(found) == count
    return found


def chat(**fields):
    return {"model": "tagline", "messages": [{"role": "user", "content": f"Sell {SECRET}."}]} | fields


def test_an_answer_has_a_span_within_that_of_its_request(http, memory, traced):
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    fields = {"seed": 3, "temperature": 0.9, "top_p": 0.8, "max_tokens": 12, "n": 2, "stop": [SECRET]}
    answer = http.post("/v1/chat/completions", json=chat(**fields), headers=headers)
    inner, outer = spans(memory, 2)
    assert f"{outer.context.trace_id:032x}" == f"{inner.context.trace_id:032x}" == TRACE
    assert f"{outer.parent.span_id:016x}" == PARENT and inner.parent.span_id == outer.context.span_id
    assert (outer.name, outer.kind.name) == ("POST /v1/chat/completions", "SERVER")
    assert outer.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/chat/completions",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": traced.port,
        "decodekit.request.id": answer.headers["x-request-id"],
    }
    assert (inner.name, inner.kind.name) == ("chat tagline", "INTERNAL")
    usage = answer.json()["usage"]
    assert inner.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "decodekit",
        "gen_ai.request.model": "tagline",
        "gen_ai.request.stream": False,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.max_tokens": 12,
        "gen_ai.request.seed": 3,
        "gen_ai.request.temperature": 0.9,
        "gen_ai.request.top_p": 0.8,
        "gen_ai.response.model": "tagline",
        "gen_ai.response.finish_reasons": tuple(c["finish_reason"] for c in answer.json()["choices"]),
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "decodekit.processors": ("temperature", "top_p"),
        "decodekit.system_fingerprint": answer.json()["system_fingerprint"],
    }
    assert not outer.status.description and outer.status.is_ok and inner.status.is_ok


@pytest.mark.parametrize(
    ("path", "fields", "name"),
    [
        ("/v1/completions", {"prompt": "Fresh"}, "text_completion tagline"),
        ("/v1/responses", {"input": "Say it."}, "chat tagline"),
        ("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4}, "chat tagline"),
    ],
)
def test_every_text_api_has_it(http, memory, path, fields, name):
    text = http.post(path, json={"model": "tagline", "stream": True} | fields).text
    inner, outer = spans(memory, 2)
    assert (inner.name, outer.name) == (name, f"POST {path}") and text
    assert inner.attributes["gen_ai.request.stream"] is True
    assert 0 < inner.attributes["gen_ai.response.time_to_first_chunk"] < 30
    assert inner.attributes["gen_ai.usage.output_tokens"] > 0


def test_no_text_is_told(http, memory):
    wanted = {"processors": [{"name": "greedy"}], "stopping": [{"name": "stop_strings", "strings": [SECRET]}]}
    http.post("/v1/chat/completions", json=chat(stop=SECRET, user=SECRET, decodekit=wanted))
    http.post(f"/v1/{SECRET}", json={})
    http.post("/v1/chat/completions", json=chat(**{SECRET: SECRET}))
    http.post("/v1/chat/completions", json=chat(model=SECRET))
    told = [span.to_json() + json.dumps(dict(span.attributes)) for span in spans(memory, 5)]
    assert SECRET not in "".join(told)


def test_a_failed_request_says_so(http, memory, traced):
    http.post("/v1/chat/completions", json=chat(temperature=9))
    (outer,) = spans(memory, 1)
    assert outer.attributes["http.response.status_code"] == 400 and outer.status.is_ok
    memory.clear()
    model = traced.decoder("slow").model
    model.fault = MemoryError(SECRET)
    try:
        answer = http.post("/v1/chat/completions", json=chat(model="slow"))
    finally:
        model.fault = None
    inner, outer = spans(memory, 2)
    assert answer.status_code == outer.attributes["http.response.status_code"] == 500
    assert (outer.attributes["error.type"], inner.attributes["error.type"]) == ("500", "E_ENGINE")
    assert not outer.status.is_ok and not inner.status.is_ok
    assert not (*inner.events, *outer.events)


def test_an_error_within_a_stream_and_a_client_that_leaves(http, memory, traced):
    model = traced.decoder("slow").model
    with http.stream("POST", "/v1/chat/completions", json=chat(model="slow", stream=True)) as answer:
        lines = answer.iter_lines()
        next(lines)
        model.fault = MemoryError(SECRET)
        *_, last = [line for line in lines if line]
    model.fault = None
    inner, outer = spans(memory, 2)
    assert "error" in last and inner.attributes["error.type"] == "E_ENGINE"
    assert outer.attributes["http.response.status_code"] == 200
    memory.clear()
    with http.stream("POST", "/v1/chat/completions", json=chat(model="slow", stream=True)) as answer:
        lines = answer.iter_lines()
        for _ in range(12):
            next(lines)
    inner, outer = spans(memory, 2)
    assert inner.attributes["error.type"] == "cancelled"
    assert 0 < inner.attributes["gen_ai.usage.output_tokens"] < 4000


def test_what_is_read_has_no_span(http, memory):
    for path in ("/health", "/metrics", "/v1/models", "/"):
        assert http.get(path).status_code == 200
    http.post("/tokenize", json={"model": "tagline", "prompt": "x"})
    (span,) = spans(memory, 1)
    assert span.name == "POST /tokenize"


@pytest.mark.parametrize("parent", ["", "00-zz", f"00-{'0' * 32}-{PARENT}-01", "x" * 5000])
def test_a_parent_that_is_none_is_passed_over(http, memory, parent):
    answer = http.post("/tokenize", json={"model": "tagline", "prompt": "x"}, headers={"traceparent": parent})
    (span,) = spans(memory, 1)
    assert answer.status_code == 200 and span.parent is None


def test_without_being_asked_nothing_of_it_is_imported():
    code = "import sys, decodekit_server.app, decodekit_server.server, decodekit_server.serve_command\n"
    code += "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "[]\n", run.stderr


def test_where_it_is_not_installed_the_option_says_what_to_do(capsys, monkeypatch):
    from decodekit import cli

    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "decodekit_server.spans", raising=False)
    assert cli.main(["serve", "tagline", "--port", "0", "--otel"]) == 2
    assert "pip install 'decodekit-server[otel]'" in capsys.readouterr().err


def test_an_exporter_that_is_not_there_is_named(otel, capsys, monkeypatch):
    from decodekit import cli

    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    assert cli.main(["serve", "tagline", "--port", "0", "--otel"]) == 2
    assert "no exporter 'zipkin' is installed, only console" in capsys.readouterr().err


def test_spans_leave_for_where_the_variables_say(otel, process):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs decodekit-server[otel]")
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_SERVICE_NAME": "shop",
            "no_proxy": "*",
        }
        silent, url = process("tagline", **environment)
        told, other = process("tagline", "--otel", **environment)
        for one in (url, other):
            answer = httpx.post(f"{one}/v1/chat/completions", json=chat(), trust_env=False, timeout=20)
            assert answer.status_code == 200
        for run in (silent, told):
            run.terminate()
            run.wait(20)
        collector.shutdown()
    ((path, body),) = received
    assert path == "/v1/traces" and b"shop" in body and b"gen_ai.usage.output_tokens" in body
    assert SECRET.encode() not in body
