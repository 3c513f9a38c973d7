"""The application: routes, behind the guard. For `decodekit serve`, or to mount in a server of your own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from decodekit_server import chains, openapi, playground
from decodekit_server.api import chat, completions, messages, responses
from decodekit_server.auth import Keys
from decodekit_server.endpoint import Endpoint, Handle
from decodekit_server.errors import ApiError
from decodekit_server.generating import Desk, Generating
from decodekit_server.guard import Guard
from decodekit_server.hosts import Hosts
from decodekit_server.limits import Limits
from decodekit_server.metrics import Metrics
from decodekit_server.models import Models, Served
from decodekit_server.params import (
    ChatParams,
    CompletionParams,
    CountParams,
    DetokenizeParams,
    MessagesParams,
    Params,
    ResponsesParams,
    ScoreParams,
    TokenizeParams,
)
from decodekit_server.preparing import Preparing
from decodekit_server.telemetry import Silence, Telemetry
from decodekit_server.texts import Texts

ONE_MODEL = "/v1/models/{model}"
TEXT = "text/plain; version=0.0.4; charset=utf-8"

Get = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class App:
    """An ASGI application, and what its owner needs to know of it."""

    asgi: ASGIApp
    desk: Desk
    routes: tuple[BaseRoute, ...]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.asgi(scope, receive, send)


def create_app(
    models: Models,
    *,
    hosts: Hosts | None = None,
    keys: Keys | None = None,
    limits: Limits | None = None,
    telemetry: Telemetry | None = None,
) -> App:
    """The application for some models.

    hosts      names it answers to; None: those of this machine only
    keys       that open it; None: no key is needed
    telemetry  is told of every request; None: nobody is
    """
    limits, telemetry = limits or Limits(), telemetry or Silence()
    desk = Desk(models, Preparing(limits), Metrics(models), telemetry)
    posts, gets = _posts(desk), _gets(desk)
    about = openapi.document(
        models.by_name,
        [(path, params, _about(params)) for path, params, _ in posts],
        [(path, TEXT if path == "/metrics" else "application/json", text) for path, _, text in gets],
    )

    async def described(_: Request) -> Response:
        return JSONResponse(about)

    routes: list[BaseRoute] = [
        *(
            Route(path, Endpoint(params, handle, on_gone=desk.metrics.gone.inc), methods=["POST"])
            for path, params, handle in posts
        ),
        *(Route(path, get, methods=["GET"]) for path, get, _ in gets),
        Route("/openapi.json", described, methods=["GET"]),
        *playground.routes(),
    ]
    known = {route.path for route in routes if isinstance(route, Route)}
    guard = Guard(
        Routed(routes),
        hosts=hosts or Hosts.of("127.0.0.1"),
        keys=keys or Keys(),
        limits=limits,
        metrics=desk.metrics,
        route=lambda path: path if path in known else ONE_MODEL if path.startswith("/v1/models/") else "",
        telemetry=telemetry,
    )
    return App(guard, desk, tuple(routes))


def _posts(desk: Desk) -> list[tuple[str, type[Params], Handle]]:
    """Path, parameters, and what answers."""
    texts = Texts(desk)
    return [
        ("/v1/chat/completions", ChatParams, Generating(desk, chat)),
        ("/v1/completions", CompletionParams, Generating(desk, completions)),
        ("/v1/responses", ResponsesParams, Generating(desk, responses)),
        ("/v1/messages", MessagesParams, Generating(desk, messages)),
        ("/v1/messages/count_tokens", CountParams, texts.count),
        ("/v1/score", ScoreParams, texts.score),
        ("/tokenize", TokenizeParams, texts.tokenize),
        ("/detokenize", DetokenizeParams, texts.detokenize),
    ]


def _gets(desk: Desk) -> list[tuple[str, Get, str]]:
    stall = desk.preparing.limits.stall_seconds

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model(served) for served in desk.models]})

    async def model(request: Request) -> Response:
        return JSONResponse(_model(desk.models.find(request.path_params["model"])))

    async def strategies(_: Request) -> Response:
        plugins = next(iter(desk.models)).decoder.plugins
        found = {
            "processors": chains.catalogue(plugins.logits_processors),
            "stopping": chains.catalogue(plugins.stopping_criteria),
        }
        return JSONResponse(found)

    async def health(_: Request) -> Response:
        """Alive: every engine takes steps, or none has anything to do."""
        failed = desk.models.failures(stall)
        found = {served.name: served.health() for served in desk.models.loaded}
        content = {"status": "failed" if failed else "ok", "failed": failed, "models": found}
        return JSONResponse(content, 503 if failed else 200)

    async def ready(_: Request) -> Response:
        """Can take work: alive, not ending, and room in every queue."""
        failed = desk.models.failures(stall)
        full = [s.name for s in desk.models.loaded if s.decoder.engine.waiting >= desk.preparing.limits.queue]
        why = "failed" if failed else "draining" if desk.draining else "full" if full else "ready"
        return JSONResponse({"status": why}, 200 if why == "ready" else 503)

    async def metrics(_: Request) -> Response:
        return Response(desk.metrics.text(), media_type=TEXT)

    return [
        ("/v1/models", models, "the models of this server"),
        (ONE_MODEL, model, "one of them"),
        ("/v1/strategies", strategies, "strategies and criteria, with the schemas of their options"),
        ("/health", health, "whether every engine makes progress"),
        ("/ready", ready, "whether it can take work"),
        ("/metrics", metrics, "counts and times, for Prometheus"),
    ]


def _model(served: Served) -> dict[str, Any]:
    bundle = served.decoder.bundle
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "decodekit",
        "parent": None if served.adapter is None else served.name.rpartition(":")[0],
        "max_model_len": bundle.context_length,
        "system_fingerprint": served.fingerprint,
    }


def _about(params: type[Params]) -> str:
    return (params.__doc__ or params.__name__).partition("\n")[0]


class Routed:
    """Routes, where a wrong path or method is an error like every other."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                scope["app"] = self  # so that a wrong method is raised, not answered in plain text
            await self._router(scope, receive, send)
        except HTTPException as exc:
            code = {404: "E_NOT_FOUND", 405: "E_METHOD"}.get(exc.status_code, "E_REQUEST")
            raise ApiError(
                exc.status_code, code, f"{scope['method'][:16]} here: {exc.detail}", more=exc.headers
            ) from exc
