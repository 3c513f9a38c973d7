"""
The ingress: what Ray Serve's HTTP proxy hands requests to. It lets them in as `decodekit serve`
does, fixes what chance would decide, and sees them answered by some replica of the model they name.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from decodekit_server import playground
from decodekit_server.app import ONE_MODEL, Routed, create_app
from decodekit_server.auth import Keys
from decodekit_server.endpoint import Endpoint, Gone, content_type, done_for, error_event, read
from decodekit_server.errors import ApiError, is_anthropic
from decodekit_server.guard import Guard
from decodekit_server.hosts import Hosts
from decodekit_server.json_body import parse
from decodekit_server.limits import Limits
from decodekit_server.models import Models, unknown_model
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from decodekit_ray.asking import ask
from decodekit_ray.replica import Model, Piece
from decodekit_ray.retelling import Question

PASSED = (b"content-type",)  # headers that a replica looks at


class Ingress:
    """Of all models.

    models   what each deployment holds
    engines  their deployments, in the same order
    """

    def __init__(
        self,
        models: list[Model],
        engines: list[DeploymentHandle],
        *,
        hosts: Hosts,
        keys: Keys,
        limits: Limits,
    ) -> None:
        streams = [engine.options(stream=True) for engine in engines]
        self._seconds = limits.answer_seconds
        self._first = dict(zip((model.names[0] for model in models), streams))
        self._by_name = {name: s for model, s in zip(models, streams) for name in model.names}
        desk = (template := create_app(Models({}), limits=limits)).desk
        posts = [
            route.path
            for route in template.routes
            if isinstance(route, Route) and isinstance(route.endpoint, Endpoint)
        ]
        gets: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/v1/models": self._models,
            ONE_MODEL: self._model,
            "/v1/strategies": self._strategies,
            "/health": self._health,
            "/ready": self._health,
        }
        routes: list[BaseRoute] = [
            *(Route(path, _Asgi(self._post), methods=["POST"]) for path in posts),
            *(Route(path, get, methods=["GET"]) for path, get in gets.items()),
            *playground.routes(),
        ]
        known = {*posts, *gets}
        self._guard = Guard(
            Routed(routes),
            hosts=hosts,
            keys=keys,
            limits=limits,
            metrics=desk.metrics,
            telemetry=desk.telemetry,
            route=lambda path: path if path in known else "",
        )

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._guard

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read(receive)
        except Gone:
            return
        engine = self._named(body, content_type(scope))
        await done_for(receive, self._forward(engine, _question(scope, body), send))

    def _named(self, body: bytes, kind: str) -> DeploymentHandle:
        """Who answers for the model that a body names; anybody for a body without, who says what is wrong."""
        name = parse(body, kind).get("model")
        if not isinstance(name, str):
            return next(iter(self._first.values()))
        return self._find(name)

    def _find(self, name: str) -> DeploymentHandle:
        if name in self._by_name:
            return self._by_name[name]
        raise unknown_model(name, self._by_name)

    async def _forward(self, engine: DeploymentHandle, question: Question, send: Send) -> None:
        begun = False
        try:
            async with aclosing(ask(engine, question, self._seconds)) as pieces:
                async for piece in pieces:
                    if not begun:
                        begun = True
                        await send(_start(piece))
                    await send(
                        {"type": "http.response.body", "body": piece.data, "more_body": not piece.last}
                    )
        except ApiError as error:
            if not begun:
                raise
            # Nobody may take a stream that cannot be gone on with for whole.
            body = error_event(error, is_anthropic(question.path))
            await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _models(self, request: Request) -> Response:
        found = await asyncio.gather(*(self._get(engine, "/v1/models") for engine in self._first.values()))
        data = [model for _, answer in found for model in answer["data"]]
        return JSONResponse({"object": "list", "data": data})

    async def _model(self, request: Request) -> Response:
        engine = self._find(request.path_params["model"])
        status, answer = await self._get(engine, request.url.path)
        return JSONResponse(answer, status)

    async def _strategies(self, request: Request) -> Response:
        status, answer = await self._get(next(iter(self._first.values())), "/v1/strategies")
        return JSONResponse(answer, status)

    async def _health(self, request: Request) -> Response:
        """What a replica of each model says."""
        path = request.url.path
        found = await asyncio.gather(*(self._get(engine, path) for engine in self._first.values()))
        models = dict(zip(self._first, (answer for _, answer in found)))
        status = max(status for status, _ in found)
        word = "failed" if status >= 500 else "ok"
        return JSONResponse({"status": word, "models": models}, status)

    async def _get(self, engine: DeploymentHandle, path: str) -> tuple[int, Any]:
        question = Question("GET", path, (), b"", "", "", 0, 0)
        async for piece in engine.answer.remote(question):
            return piece.head[0], json.loads(piece.data)
        raise AssertionError("a replica gave no answer")


class _Asgi:
    """A coroutine function as an application: routes take a bare one for a function of requests."""

    def __init__(self, call: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._call(scope, receive, send)


def _question(scope: Scope, body: bytes) -> Question:
    return Question(
        method=scope["method"],
        path=scope["path"],
        headers=tuple((name, value) for name, value in scope["headers"] if name in PASSED),
        body=body,
        tenant=scope["tenant"],
        id=secrets.token_hex(12),
        created=int(time.time()),
        seed=secrets.randbits(53),  # as many as JSON keeps
    )


def _start(piece: Piece) -> dict[str, Any]:
    assert piece.head is not None
    status, headers = piece.head
    return {"type": "http.response.start", "status": status, "headers": list(headers)}
