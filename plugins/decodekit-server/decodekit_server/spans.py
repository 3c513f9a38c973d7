"""
Spans of requests, for OpenTelemetry. The one module that imports it; loaded by `decodekit serve --otel`.

A request has a span of the conventions for HTTP servers, and within it, where a model answers, one of
those for generative AI: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/. Names and
numbers only: no text of a prompt or an answer, no stop sequence, no path that is no route.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.types import Scope

from decodekit.errors import InputError
from decodekit_server import chains
from decodekit_server.answers import Answers
from decodekit_server.api.writing import finish_reason
from decodekit_server.ask import Ask, Dialogue
from decodekit_server.errors import api_error
from decodekit_server.preparing import Job, seed

PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
MAX_INT = 2**63 - 1  # of an attribute


class Spans:
    """Tells a provider of every POST; what is read by GET is no work of a model."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("decodekit_server")

    @classmethod
    def exported(cls) -> Spans:
        """Spans that go where the OTEL_* variables say, or to the provider that is already set up."""
        provider = trace.get_tracer_provider()
        return cls(provider if isinstance(provider, TracerProvider) else _provider(os.environ))

    @contextmanager
    def request(self, scope: Scope, route: str, id: str) -> Iterator[Callable[[int], None]]:
        if scope["method"] != "POST":
            yield lambda status: None
            return
        parent = propagate.extract({n.decode("latin-1"): v.decode("latin-1") for n, v in scope["headers"]})
        host, port = scope.get("server") or ("", None)
        attributes = {
            "http.request.method": "POST",
            "url.scheme": scope.get("scheme", "http"),
            "server.address": host,
            "decodekit.request.id": id,
            **({"http.route": route, "url.path": route} if route else {}),
            **({"server.port": port} if port else {}),
        }
        name = f"POST {route}" if route else "POST"
        with self._tracer.start_as_current_span(
            name,
            parent,
            SpanKind.SERVER,
            attributes,
            record_exception=False,  # its message may quote a prompt
            set_status_on_exception=False,
        ) as span:
            yield lambda status: _answered(span, status)

    @contextmanager
    def answer(self, answers: Answers) -> Iterator[None]:
        attributes = _asked(answers.job)
        name = f"{attributes['gen_ai.operation.name']} {attributes['gen_ai.request.model']}"
        # Not the current span: an answer that is streamed is written step by step, between other work.
        span = self._tracer.start_span(name, kind=SpanKind.INTERNAL, attributes=attributes)
        try:
            yield
        except Exception as exc:
            _fail(span, api_error(exc).code)
            raise
        except BaseException:  # cancelled, or closed by who read it
            _fail(span, "cancelled")
            raise
        finally:
            span.set_attributes(_told(answers))
            span.end()

    def end(self) -> None:
        self._provider.shutdown()


def _answered(span: Span, status: int) -> None:
    if status:
        span.set_attribute("http.response.status_code", status)
    if not status or status >= 500:
        _fail(span, str(status) if status else "disconnected")


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _asked(job: Job) -> dict[str, Any]:
    ask, first = job.ask, job.prepared[0]
    found = {
        "gen_ai.operation.name": "chat" if isinstance(ask.prompts[0], Dialogue) else "text_completion",
        "gen_ai.provider.name": "decodekit",
        "gen_ai.request.model": job.served.name,
        "gen_ai.request.stream": ask.stream,
        "gen_ai.usage.input_tokens": job.prompt_tokens,
        "decodekit.processors": [link.name for link in first.links],
        "decodekit.system_fingerprint": job.served.fingerprint,
        **_sampling(ask),
    }
    if (count := ask.n * len(ask.prompts)) != 1:
        found["gen_ai.request.choice.count"] = count
    if ask.max_tokens is not None:
        found["gen_ai.request.max_tokens"] = ask.max_tokens
    if seed(ask) is not None and job.seed <= MAX_INT:
        found["gen_ai.request.seed"] = job.seed
    if ask.constraint is not None and not ask.constraint.calls:
        found["gen_ai.output.type"] = "json"
    return found


def _sampling(ask: Ask) -> dict[str, float]:
    """The flat fields that the client gave."""
    given = chains.given(ask.sampling)
    given.pop("logit_bias", None)
    return {f"gen_ai.request.{name}": float(value) for name, value in given.items()}


def _told(answers: Answers) -> dict[str, Any]:
    done = [choice.completion for choice in answers.choices if choice.completion is not None]
    left = [choice for choice in answers.choices if choice.completion is None]
    made = sum(one.usage.completion_tokens for one in done) + sum(len(choice.tokens) for choice in left)
    found: dict[str, Any] = {
        "gen_ai.response.model": answers.job.served.name,
        "gen_ai.usage.output_tokens": made,
        "gen_ai.response.finish_reasons": [finish_reason(one) for one in done],
    }
    if answers.job.ask.stream and answers.first is not None:
        found["gen_ai.response.time_to_first_chunk"] = answers.first
    return found


def _provider(environment: Mapping[str, str]) -> TracerProvider:
    """Resource, sampler and limits are read from the environment by OpenTelemetry itself."""
    resource = Resource.create()
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "decodekit"}))
    provider = TracerProvider(resource=resource)
    for name in environment.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        if name.strip() not in ("", "none"):
            provider.add_span_processor(BatchSpanProcessor(_exporter(name.strip(), environment)))
    return provider


def _exporter(name: str, environment: Mapping[str, str]) -> Any:
    if name == "otlp":
        common = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", common)
        name = PROTOCOLS.get(protocol, protocol)
    found = entry_points(group="opentelemetry_traces_exporter")
    if name not in found.names:
        raise InputError(
            f"--otel: no exporter {name!r} is installed, only {', '.join(sorted(found.names)) or 'none'}; "
            "install its package, or set OTEL_TRACES_EXPORTER"
        )
    return found[name].load()()
