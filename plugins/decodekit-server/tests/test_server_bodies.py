"""What arrives: bounded in bytes, in seconds and in number, and told what is wrong with it."""

import json
import socket
import sys
import time

import pytest
from decodekit_server.limits import Limits

HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def small(serve, tagline):
    limits = Limits(
        body_bytes=10_000,
        header_bytes=4096,
        receive_seconds=0.5,
        idle_seconds=1,
        connections=8,
        answer_tokens=50,
        request_tokens=100,
        drain_seconds=0.1,
    )
    with serve({"tagline": tagline}, limits=limits) as running:
        yield running


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"model": "tagline", "model": "x"}', "there twice"),
        (b'{"model": NaN}', "NaN"),
        (b'{"seed": 1e999}', "out of range"),
        (b'{"seed": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"a":' * 60_000 + b"1" + b"}" * 60_000, "nested"),
        (b'{"decodekit":' + b"[" * 100 + b"]" * 100 + b"}", "nested"),
        (b'{"model": "\\ud800"}', "not JSON"),
        (b"[1]", "must be an object"),
        (b'"text"', "must be an object"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8 at byte 0"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'{"model": "\xe9"}', "not UTF-8 at byte 11"),
    ],
)
def test_what_is_not_json_is_refused_and_told_why(http, body, why):
    answer = http.post("/v1/chat/completions", content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "E_BODY" and why in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded", ""]
)
def test_another_content_type_is_refused(http, kind):
    answer = http.post("/v1/chat/completions", content=b"{}", headers={"content-type": kind})
    assert answer.status_code == 400 and "content-type" in answer.json()["error"]["message"]


def test_a_wrong_method_is_told(http):
    answer = http.get("/v1/chat/completions")
    assert answer.status_code == 405 and answer.json()["error"]["code"] == "E_METHOD"
    assert http.post("/v1/models", json={}).status_code == 405
    assert answer.headers["allow"] == "POST"
    assert http.get("/nothing").json()["error"]["code"] == "E_NOT_FOUND"


def test_a_connection_is_closed_where_a_body_is_left_unread(http, ask):
    body = {"model": "none", "messages": ask}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 404 and "connection" not in answer.headers
    answer = http.post("/v1/chat/completions", json=body, headers={"host": "evil.example"})
    assert answer.status_code == 403 and answer.headers["connection"] == "close"


def test_a_large_body_is_refused_before_it_is_read(small):
    assert " 413 " in small.exchange(HEAD + "Content-Length: 1000000000\r\n\r\n")


def test_what_comes_behind_a_body_is_no_part_of_it(small):
    """A length that lies: the rest would be a request, and is none."""
    answer = small.exchange(HEAD + "Content-Length: 2\r\n\r\n{}", 'x": 1}\r\n\r\n')
    assert answer.count("HTTP/1.1 400 ") == 2 and '"param":"model"' in answer


def test_an_endless_body_is_cut_where_it_is_too_large(small):
    """At the third chunk, with no word of an end."""
    chunk = "1000\r\n" + "x" * 4096 + "\r\n"
    answer = small.exchange(HEAD + "Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 3)
    assert answer.startswith("HTTP/1.1 413 ") and "E_LIMIT" in answer


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 2\r\nContent-Length: 3\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: two\r\n",
        "Content-Encoding: gzip\r\nContent-Length: 2\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Host: localhost\r\nContent-Length: 2\r\n",
    ],
)
def test_odd_framing_is_refused(small, headers):
    answer = small.exchange(HEAD + headers + "\r\n{}")
    assert answer.startswith("HTTP/1.1 400 ") and '"code":"E_BODY"' not in answer


@pytest.mark.parametrize(
    "head",
    [
        "GET /health HTTP/1.1\r\nX: " + "x" * 4096,
        f"GET /{'x' * 4096} HTTP/1.1\r\nX: y",
        f"GET /health?{'x' * 4096} HTTP/1.1\r\nX: y",
    ],
    ids=["header", "path", "query"],
)
def test_long_headers_are_refused_whole_or_not(small, head):
    text = head + "\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = small.exchange(text)
    assert (
        answer.startswith("HTTP/1.1 431 ") and "headers: over 4,096 bytes" in answer and "xxx" not in answer
    )
    assert small.exchange(text.replace("xxx", "xxx" * 9)[:9000]).startswith("HTTP/1.1 400 ")


def test_a_body_that_comes_too_slowly_is_told_so(small):
    began = time.monotonic()
    answer = small.exchange(HEAD + "Content-Length: 100\r\n\r\n{", " ", pause=0.1)
    assert " 408 " in answer and "E_SLOW" in answer
    assert time.monotonic() - began < 5


def test_headers_that_come_too_slowly_end_the_connection(small):
    began = time.monotonic()
    assert small.exchange("GET / HTTP/1.1\r\n", *["X: y\r\n"] * 40, pause=0.1) == ""
    assert time.monotonic() - began < 5


def test_a_connection_too_many_is_told_so_and_room_is_made(small):
    idle = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(8)]
    try:
        time.sleep(0.1)
        assert "E_CONNECTIONS" in small.exchange("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:  # connections that say nothing are closed
            if " 200 " in small.exchange("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
                return
            time.sleep(0.2)
        raise AssertionError("idle connections are never closed")
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": 51}, "max_tokens"),
        ({"max_tokens": 50, "n": 3}, "max_tokens"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"n": 129}, "n"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"decodekit": {"processors": [{"name": "greedy"}] * 33}}, "decodekit.processors"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 129}, "tools"),
    ],
)
def test_more_than_a_limit_is_refused_by_name(small, ask, fields, param):
    with small.client() as http:
        answer = http.post("/v1/chat/completions", json={"model": "tagline", "messages": ask, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param) and param in error["message"]


def test_options_of_a_strategy_are_bounded(http, ask):
    many = {"name": "logit_bias", "bias": {str(i): 0.5 for i in range(20_001)}}
    body = {"model": "tagline", "messages": ask, "decodekit": {"processors": [many]}}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "E_LIMIT"


def test_without_a_length_an_answer_is_bounded(small, ask):
    with small.client() as http:
        body = {"model": "tagline", "messages": ask, "n": 4, "decodekit": {"ignore_eos": True}}
        answer = http.post("/v1/chat/completions", json=body).json()
    assert answer["usage"]["completion_tokens"] == 100
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"length"}


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ["x", *[-1] * 200_000]},
        {"prompt": [-1] * 300_000},
        {"prompt": [[-1] * 1000] * 128},
        {"prompt": "x", "logit_bias": {f"k{i}": 1 for i in range(60_000)}},
        {"prompt": "x", "stop": [""] * 200_000},
        {f"f{i}": 1 for i in range(60_000)},
    ],
    ids=range(6),
)
def test_a_large_body_of_wrong_things_is_no_great_work(http, fields):
    began = time.monotonic()
    answer = http.post("/v1/completions", json={"model": "tagline", **fields})
    assert answer.status_code == 400 and len(answer.text) < 1000
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "%2e%2e", "\0", "x" * 10_000, "🐈", "Tagline", "", "tagline\r\nx: y"]
)
def test_a_model_is_looked_up_never_opened(http, ask, name):
    answer = http.post("/v1/chat/completions", json={"model": name, "messages": ask})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "model_not_found"
    assert "\n" not in answer.json()["error"]["message"]


def test_no_file_is_opened_for_a_name(http, ask, tmp_path):
    opened, watching = [], True

    def watch(event, arguments):
        if watching and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)  # stays for good, so it is told to stop
    try:
        for name in (str(tmp_path / "bundle"), "../nonce", "nonce"):
            assert http.post("/v1/chat/completions", json={"model": name, "messages": ask}).status_code == 404
            assert http.get(f"/v1/models/{name}").status_code == 404
    finally:
        watching = False
    assert not [path for path in opened if "nonce" in path or path.startswith(str(tmp_path))]


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"])
def test_a_method_that_there_is_not(small, method):
    answer = small.exchange(
        f"{method} /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith("HTTP/1.1 405 ") and "\r\nallow: post\r\n" in answer.lower()


@pytest.mark.parametrize(
    ("ranges", "status"),
    [("bytes=0-9", 206), ("bytes=x", 400), ("bytes=99999999-", 416), (",".join(["0-"] * 300), 400)],
)
def test_parts_of_a_file_are_no_great_work(http, ranges, status):
    began = time.monotonic()
    assert http.get("/static/main.js", headers={"range": ranges}).status_code == status
    assert http.get("/v1/models", headers={"range": ranges}).status_code == 200  # no file
    assert time.monotonic() - began < 2


def test_the_first_version_of_http_is_answered(small):
    assert " 200 " in small.exchange("GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert " 400 " in small.exchange("GET /health HTTP/1.0\r\n\r\n")


def test_control_characters_reach_no_log(http, ask, caplog):
    caplog.set_level(0)
    secret = "\x1b[31m%s\r\nSECRET"
    http.post(
        "/v1/chat/completions", json={"model": secret, "messages": [{"role": "user", "content": secret}]}
    )
    http.post("/v1/chat/completions", json={"model": "tagline", "messages": ask, secret: 1})
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("decodekit")]
    assert ours and not any("SECRET" in line or "\x1b" in line for line in ours)


def test_events_are_not_kept_for_company(small):
    """With Nagle's algorithm an answer of two packets takes 40 ms longer."""
    with socket.create_connection(("127.0.0.1", small.port)):
        time.sleep(0.1)
        for connection in small.server.server_state.connections:
            own = connection.transport.get_extra_info("socket")
            assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_unfinished_answer_does_not_hold_up_a_pipelined_request(small):
    one = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = small.exchange(one + one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"))
    assert answer.count("HTTP/1.1 200") == 2


def test_every_event_is_json(http, ask):
    body = {"model": "tagline", "messages": ask, "stream": True, "seed": 1, "decodekit": {"ignore_eos": True}}
    text = http.post("/v1/chat/completions", json=body | {"max_tokens": 60, "temperature": 2}).text
    *events, done, end = text.split("\n\n")
    assert done == "data: [DONE]" and end == ""
    assert all(json.loads(event.removeprefix("data: ")) for event in events)
