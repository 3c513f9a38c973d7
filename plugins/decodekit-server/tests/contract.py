"""
The contract: requests over every field and error, and what they were answered, as a file.

    python contract.py      record contract.json again, after a change that is meant
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("contract.json")
ASK = [{"role": "user", "content": "Give me a tagline for a new coffee shop."}]
SEED = {"decodekit": {"seed": 1}}
CHAT = {"model": "tagline", "messages": ASK, "seed": 1}
TEXT = {"model": "tagline", "prompt": "Good days", "seed": 1, "max_tokens": 6}
MESSAGES = {"model": "tagline", "messages": ASK, "max_tokens": 12, "temperature": 0} | SEED
TOOL = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": {}}}
VARYING = {"id", "created", "created_at", "system_fingerprint", "item_id", "call_id"}


def chat(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", CHAT | fields


def text(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", TEXT | fields


def extra(**fields: Any) -> tuple[str, dict[str, Any]]:
    return chat(decodekit=fields)


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": chat(),
    "greedy": chat(temperature=0),
    "nulls": chat(temperature=None, top_p=None, n=None, stop=None, tools=None, stream=None, logprobs=None),
    "neutral": chat(
        n=1, logit_bias={}, logprobs=False, top_logprobs=0, frequency_penalty=0, presence_penalty=0,
        store=False, service_tier="auto", modalities=["text"], metadata={}, parallel_tool_calls=True,
        tools=[], user="me", response_format={"type": "text"}, tool_choice="none", safety_identifier="x",
    ),
    "temperature and top_p": chat(temperature=0.7, top_p=0.8),
    "n": chat(n=2),
    "stop": chat(temperature=0, stop=["."]),
    "max_tokens": chat(max_tokens=3),
    "max_completion_tokens": chat(max_completion_tokens=3),
    "logprobs": chat(max_tokens=2, logprobs=True, top_logprobs=2),
    "logit_bias": chat(temperature=0, logit_bias={"300": 50}, max_tokens=3),
    "penalties": chat(frequency_penalty=1.5, presence_penalty=-0.5),
    "parts": chat(messages=[{"role": "user", "content": [{"type": "text", "text": ASK[0]["content"]}]}]),
    "stream": chat(stream=True, max_tokens=3),
    "stream with usage": chat(stream=True, max_tokens=2, stream_options={"include_usage": True}),
    "stream of two": chat(stream=True, max_tokens=2, n=2),
    "processors": extra(processors=[{"name": "top_k", "k": 4}, {"name": "temperature", "t": 0.8}]),
    "no processors": extra(processors=[]),
    "stopping": extra(stopping=[{"name": "max_new_tokens", "n": 2}]),
    "min_tokens": extra(min_tokens=20, ignore_eos=False),
    "ignore_eos": chat(max_tokens=20, decodekit={"ignore_eos": True}),
    "stop_token_ids": chat(temperature=0, decodekit={"stop_token_ids": [14]}),
    "sample": extra(sample=1),
    "final logprobs": chat(max_tokens=1, logprobs=True, top_p=0.5, decodekit={"logprobs_at": "final"}),
    "echo_params": chat(top_p=0.9, max_tokens=2, decodekit={"echo_params": True}),
    "speculate": extra(speculate="lookup"),
    "text": text(),
    "text of ids": text(prompt=[300, 301, 302]),
    "texts": text(prompt=["Good", "Bad"], n=2, max_tokens=3),
    "text logprobs": text(logprobs=2, max_tokens=2),
    "text stream": text(stream=True, max_tokens=3, stream_options={"include_usage": True}),
    "text neutral": text(best_of=1, echo=False, suffix="", user="me"),
    "response": ("/v1/responses", {"model": "tagline", "input": "Say it."} | SEED),
    "response of messages": (
        "/v1/responses",
        {"model": "tagline", "input": [{"role": "user", "content": "Say it."}], "store": True} | SEED,
    ),
    "response stream": (
        "/v1/responses",
        {"model": "tagline", "input": "Say it.", "stream": True, "max_output_tokens": 2} | SEED,
    ),
    "response neutral": (
        "/v1/responses",
        {"model": "tagline", "input": "x", "tools": [], "tool_choice": "auto", "user": "me"} | SEED,
    ),
    "response of a turn": (
        "/v1/responses",
        {
            "model": "tagline",
            "input": [
                {"role": "user", "content": "Say it."},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "It."}]},
                {"role": "user", "content": [{"type": "input_text", "text": "Again."}]},
            ],
        }
        | SEED,
    ),
    "message": ("/v1/messages", MESSAGES),
    "message stream": ("/v1/messages", MESSAGES | {"stream": True, "max_tokens": 2}),
    "message stop": ("/v1/messages", MESSAGES | {"stop_sequences": ["."], "top_k": 5, "top_p": 0.9}),
    "message error": ("/v1/messages", MESSAGES | {"max_tokens": 0}),
    "score": ("/v1/score", {"model": "tagline", "text": "Good days", "top": 1}),
    "score an answer": ("/v1/score", {"model": "tagline", "text": "Good.", "prompt": "Say it."}),
    "tokenize": ("/tokenize", {"model": "tagline", "prompt": "Good days"}),
    "tokenize raw": ("/tokenize", {"model": "tagline", "prompt": "Good days", "raw": True}),
    "detokenize": ("/detokenize", {"model": "tagline", "tokens": [300, 301]}),
    "no model": chat(model="none"),
    "no messages": chat(messages=[]),
    "no content": chat(messages=[{"role": "user"}]),
    "unknown field": chat(top_pp=0.5),
    "unknown nested field": extra(processor=[]),
    "wrong type": chat(temperature="hot"),
    "a truth value is no number": chat(top_p=True),
    "out of domain": chat(temperature=2.5),
    "negative seed": chat(seed=-1),
    "unsupported": chat(audio={"voice": "x"}),
    "unsupported best_of": text(best_of=2),
    "unsupported echo": text(echo=True),
    "unsupported previous response": (
        "/v1/responses", {"model": "tagline", "input": "x", "previous_response_id": "r"}
    ),
    "two seeds": extra(seed=2),
    "two lengths": chat(max_tokens=1, max_completion_tokens=1),
    "two chains": chat(temperature=0.5, decodekit={"processors": [{"name": "greedy"}]}),
    "unknown strategy": extra(processors=[{"name": "topp", "p": 0.5}]),
    "a path is no strategy": extra(processors=[{"name": "os.system"}]),
    "wrong option": extra(processors=[{"name": "top_p", "p": 1.5}]),
    "unknown option": extra(processors=[{"name": "top_p", "q": 0.5}]),
    "missing option": extra(processors=[{"name": "top_p"}]),
    "unknown place": chat(logprobs=True, decodekit={"logprobs_at": "top_k"}),
    "unknown token": chat(logit_bias={"999999": 1}),
    "prompt too long": chat(messages=[{"role": "user", "content": "word " * 300}]),
    "ids out of range": text(prompt=[999_999]),
    "empty text": text(prompt=[]),
    "template refuses": chat(messages=[{"role": "system", "content": "x"}, *ASK]),
    "template has no tools": chat(tools=[TOOL]),
    "template has no tools for a response": (
        "/v1/responses", {"model": "tagline", "input": "x", "tools": [{"type": "function", "name": "f"}]}
    ),
    "unknown item": ("/v1/responses", {"model": "tagline", "input": [{"type": "reasoning"}]}),
    "choice without tools": chat(tool_choice="required"),
    "top_logprobs alone": chat(top_logprobs=2),
    "two prompts": ("/tokenize", {"model": "tagline"}),
    "no draft": extra(speculate="draft"),
}  # fmt: skip


def ask(http: Any, name: str) -> dict[str, Any]:
    """Status and content of an answer, without what differs every time."""
    path, body = REQUESTS[name]
    answer = http.post(path, json=body)
    streamed = answer.headers["content-type"].startswith("text/event-stream")
    content = _events(answer.text) if streamed else answer.json()
    return {"status": answer.status_code, "content": plain(_joined(content) if streamed else content)}


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "..." if key in VARYING else plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return value.partition("; not loaded: ")[0]  # what else is installed
    return [plain(item) for item in value] if isinstance(value, list) else value


def same(one: Any, other: Any) -> bool:
    """Equal, numbers to a thousandth."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-3)
    return type(one) is type(other) and one == other


def _events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def _joined(events: list[Any]) -> dict[str, Any]:
    """Events without where one piece of text ends and the next begins, which is a matter of time."""
    texts: dict[str, str] = {}
    kept = [event for event in events if not (isinstance(event, dict) and _is_text(event, texts))]
    return {"texts": texts, "events": kept}


def _is_text(event: dict[str, Any], texts: dict[str, str]) -> bool:
    """Whether it holds text alone; the text is moved."""
    event.pop("sequence_number", None)
    if event.get("type") in ("response.output_text.delta", "content_block_delta"):
        delta = event["delta"]
        texts["0"] = texts.get("0", "") + (delta if isinstance(delta, str) else delta["text"])
        return True
    for choice in event.get("choices", []):
        holder = choice if "text" in choice else choice["delta"]
        key = "text" if "text" in choice else "content"
        if piece := holder.get(key):
            texts[str(choice["index"])] = texts.get(str(choice["index"]), "") + piece
            holder[key] = ""
            return choice["finish_reason"] is None
    return False


def record() -> None:
    """Write the file, with a server for the embedded model and the built-in strategies."""
    from decodekit_server.testing import serving

    import decodekit
    from decodekit.plugins import load_plugins

    decoder = decodekit.load("tagline", device="cpu", plugins=load_plugins(only=()))
    with serving({"tagline": decoder}) as running, running.client() as http:
        found = {name: ask(http, name) for name in REQUESTS}
    FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    for name, answer in found.items():
        print(answer["status"], name, json.dumps(answer["content"])[:150])


if __name__ == "__main__":
    record()
