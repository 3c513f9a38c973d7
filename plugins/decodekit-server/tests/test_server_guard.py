"""Whom the server listens to: nobody, unless host, origin and key say so, on every route there is."""

import base64
import time

import pytest
from decodekit_server.auth import Keys, read_keys
from decodekit_server.hosts import Hosts
from starlette.routing import Mount

import decodekit
from decodekit.errors import InputError

KEY = "a-key-for-tests-0123456789"


@pytest.fixture(scope="module")
def locked(serve, tagline):
    with serve({"tagline": tagline}, keys=[KEY]) as running:
        yield running


def status(answer):
    return int(answer.split(" ", 2)[1])


def paths(app):
    """Every path of the router, and forms of them that must not be another way in."""
    for route in app.routes:
        path = (route.path or "/").replace("{model}", "tagline")
        if isinstance(route, Mount):
            path += "/index.html"
        yield from (
            path,
            path + "/",
            "/" + path,
            path.upper(),
            path + "?key=" + KEY,
            path + "%2f..",
            path + ";x",
        )
    yield from ("/docs", "/redoc", "/admin", "/../etc/passwd", "/static/../../auth.py", "/%00", "*")


def test_no_route_opens_without_a_key(locked):
    seen = 0
    for path in dict.fromkeys(paths(locked.app)):
        for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "TRACE", "CONNECT"):
            target = "x:1" if method == "CONNECT" else path
            text = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            assert status(locked.exchange(text)) == 401, (method, path)
            seen += 1
    assert seen > 500


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": f"Bearer {KEY} "[:-1] + "x"},
        {"authorization": f"Digest {KEY}"},
        {"authorization": KEY},
        {"authorization": "Bearer"},
        {"authorization": "Bearer " + "k" * 10_000},
        {"cookie": f"key={KEY}"},
        {"authorization": b"Bearer \xff\xfe"},
        {"authorization": "Basic " + base64.b64encode(b"x:wrong").decode()},
        {"authorization": "Basic !!"},
        {"x-api-key": "wrong"},
        [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")],
        [("authorization", f"Bearer {KEY}"), ("x-api-key", KEY)],
        {"x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1", "forwarded": "for=127.0.0.1"},
    ],
)
def test_a_wrong_key_opens_nothing(locked, headers):
    with locked.client() as http:
        answer = http.get("/v1/models", headers=headers)
    assert answer.status_code == 401 and answer.json()["error"]["code"] == "E_KEY"
    assert KEY not in answer.text


def test_a_key_of_a_megabyte_is_no_work(locked):
    text = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {'k' * 1_000_000}\r\n\r\n"
    began = time.monotonic()
    assert locked.exchange(text)[:13] in ("", "HTTP/1.1 400 ")  # it is told, or cut while it still talks
    assert time.monotonic() - began < 2


def test_the_right_key_opens_in_three_ways(locked):
    basic = "Basic " + base64.b64encode(f"me:{KEY}".encode()).decode()
    with locked.client() as http:
        for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}, {"authorization": basic}):
            assert http.get("/v1/models", headers=headers).status_code == 200


def test_a_key_is_never_logged_or_counted(locked, caplog):
    caplog.set_level(0)
    with locked.client() as http:
        http.get(f"/v1/models/{KEY}?k={KEY}", headers={"authorization": f"Bearer {KEY}"})
        http.get("/v1/models", headers={"x-api-key": KEY + "x"})
        metrics = http.get("/metrics", headers={"x-api-key": KEY}).text
    logged = [r.getMessage() for r in caplog.records if r.name.startswith(("decodekit", "uvicorn"))]
    assert logged and KEY not in "".join(logged) and KEY not in metrics


def test_prefixes_are_shared_within_a_key_only(serve, plugins):
    with (
        decodekit.load("tagline", device="cpu", plugins=plugins) as decoder,
        serve({"m": decoder}, keys=[KEY, KEY + "2"]) as running,
        running.client() as http,
    ):

        def reused(key):
            before = decoder.engine.meter.reused
            body = {"model": "m", "prompt": list(range(300, 500)), "max_tokens": 1}
            assert http.post("/v1/completions", json=body, headers={"x-api-key": key}).status_code == 200
            return decoder.engine.meter.reused - before

        first = [reused(KEY), reused(KEY), reused(KEY)]
        assert first[0] == 0 and first[2] > 0
        assert reused(KEY + "2") == 0


def test_every_route_asks_for_host_and_origin(server):
    """Whatever a path, in whatever form, and without a key too."""
    for path in dict.fromkeys(paths(server.app)):
        for method in ("GET", "POST", "OPTIONS"):
            for host, origin in (("evil.example", ""), ("127.0.0.1", "Origin: https://evil.example\r\n")):
                text = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{origin}Connection: close\r\n\r\n"
                answer = server.exchange(text)
                assert status(answer) == 403, (method, path, host, origin)
                assert "access-control" not in answer.lower()


HOSTS = [
    "evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "x?", "127.0.0.1/",
    "127.0.0.1#", "user@127.0.0.1", "127.0.0.1:80:80", "127.0.0.1:", "", " ", "0.0.0.0", "10.0.0.1", "[::]",
    "127.0.0.1, evil.example", "127.0.0.1%00", "2130706433", "\xff",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_a_forged_host_is_refused(server, host):
    text = f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert status(server.exchange(text)) == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1234", "LOCALHOST", "[::1]:80", "127.0.0.2"])
def test_names_of_this_machine_are_known(server, host):
    text = f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert status(server.exchange(text)) == 200


@pytest.mark.parametrize(
    "request_line",
    [
        "GET http://127.0.0.1/v1/models",
        "GET //v1/models",
        "GET /v1/models/../models",
        "GET /V1/MODELS",
        "GET *",
    ],
)
def test_odd_targets_lead_nowhere(server, request_line):
    text = f"{request_line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    assert status(server.exchange(text)) == 404


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "http://127.0.0.1:1", "file://", "http://"]
)
def test_a_foreign_page_is_refused(server, http, ask, origin):
    body = {"model": "tagline", "messages": ask, "max_tokens": 1}
    answer = http.post("/v1/chat/completions", json=body, headers={"origin": origin})
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "E_ORIGIN"
    preflight = http.options("/v1/chat/completions", headers={"origin": origin})
    assert preflight.status_code == 403
    for one in (answer, preflight):
        assert not [name for name in one.headers if name.startswith("access-control")]


def test_its_own_page_is_served(server, http):
    answer = http.get("/models", headers={"origin": server.url})
    assert answer.status_code == 404  # and not 403
    assert http.get("/").headers["content-type"].startswith("text/html")
    assert http.get("/static/index.html").status_code == 200


def test_beyond_loopback_addresses_and_given_names_are_known():
    hosts = Hosts.of("0.0.0.0", ["llm.example"])
    assert not hosts.is_local
    assert all(map(hosts.knows, ["10.1.2.3:8000", "llm.example", "LLM.example:443", "[fe80::1]"]))
    assert not any(map(hosts.knows, ["evil.example", "0.0.0.0", "[::]", "llm.example.evil"]))
    assert hosts.trusts("https://llm.example", "10.1.2.3") and not hosts.trusts("https://evil", "10.1.2.3")


def test_keys_are_read_from_a_file(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{KEY}\n\n{KEY}2\n")
    keys = read_keys(file)
    one, two = (keys.tenant([(b"x-api-key", key.encode())]) for key in (KEY, KEY + "2"))
    assert one and two and one != two and keys.tenant([]) is None
    assert Keys().tenant([]) == ""
    monkeypatch.setenv("DECODEKIT_API_KEY", "short")
    with pytest.raises(InputError, match=r"DECODEKIT_API_KEY: a key is 16 to 1024") as caught:
        read_keys(None)
    assert "'short'" not in str(caught.value)
    file.write_text("# none\n")
    with pytest.raises(InputError, match="holds no key"):
        read_keys(file)
