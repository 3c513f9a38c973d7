"""The examples of the documentation, run."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "docs" / "examples"


def test_the_openai_client(server):
    environment = {**os.environ, "OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "none"}
    words = [sys.executable, EXAMPLES / "openai_client.py"]
    run = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    first, streamed, *many = run.stdout.splitlines()
    assert first and len(many) == 8 and many[1] == streamed


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(server):
    environment = {**os.environ, "DECODEKIT_URL": server.url, "no_proxy": "*"}
    run = subprocess.run(
        ["sh", EXAMPLES / "curl.sh"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    answer, *events, tokens, score = [line for line in run.stdout.splitlines() if line]
    assert json.loads(answer)["choices"][0]["message"]["content"]
    assert (
        events[-1] == "data: [DONE]" and json.loads(tokens)["count"] > 3 and json.loads(score)["tokens"] > 3
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_endpoint_of_ones_own():
    pytest.importorskip("fastapi", reason="needs decodekit-server[test]")
    from starlette.testclient import TestClient

    spec = importlib.util.spec_from_file_location("fastapi_app", EXAMPLES / "fastapi_app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with TestClient(module.app) as client:
        first = client.post("/slogan", json={"prompt": "Write a slogan for a bakery.", "seed": 2}).text
        decoder = module.app.state.decoder
        own = decoder.generate("Write a slogan for a bakery.", "temperature=0.8, top_p=0.9", seed=2)
        assert first == own.text
        assert client.post("/slogan", json={"prompt": ""}).status_code == 400


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_below_a_path_of_another_application(tagline):
    from decodekit_server.app import create_app
    from decodekit_server.models import Models
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.testclient import TestClient

    app = create_app(Models.of({"tagline": tagline}))
    outer = Starlette(routes=[Mount("/llm", app)])
    with TestClient(outer, base_url="http://localhost") as client:
        asked = {"model": "tagline", "prompt": "Fresh", "max_tokens": 2}
        assert client.post("/llm/v1/completions", json=asked).status_code == 200
        assert client.get("/llm/v1/messages").json()["type"] == "error"
        assert client.get("/llm/").status_code == 200
        metrics = client.get("/llm/metrics").text
    assert 'decodekit_requests_total{route="/v1/completions",status="200"} 1.0' in metrics
    app.desk.preparing.close()


@pytest.mark.parametrize("text", (ROOT / "docs" / "serve.md").read_text().split("```json\n")[1:])
def test_requests_on_the_page_are_answered(http, text):
    answer = http.post("/v1/chat/completions", json=json.loads(text.partition("```")[0]))
    assert answer.status_code == 200, answer.text
