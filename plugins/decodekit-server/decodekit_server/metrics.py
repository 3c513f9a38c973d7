"""Metrics for Prometheus. Labels are routes and model names of this server, never what a client wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from decodekit.engine import Engine
from decodekit_server.models import Models

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Of one server."""

    def __init__(self, models: Models) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "decodekit_requests", "answered, by route and status", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "decodekit_request_seconds",
            "from the first byte to the last",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.first_token = Histogram(
            "decodekit_first_token_seconds",
            "from a prepared request to its first token",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self.tokens = Counter("decodekit_sent_tokens", "drawn for clients", ["model"], registry=registry)
        self.open = Gauge("decodekit_open_requests", "being answered", registry=registry)
        self.gone = Counter("decodekit_gone", "clients that left before the end", registry=registry)
        registry.register(Engines(models))

    def text(self) -> bytes:
        return generate_latest(self._registry)


class Engines(Collector):
    """Reads what the engines count, when asked."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        yield self._gauge("running", "requests that are decoded", lambda e: e.running)
        yield self._gauge("waiting", "requests that wait", lambda e: e.waiting)
        yield self._gauge("step_age_seconds", "of the step in progress", lambda e: e.age)
        yield self._gauge("up", "1: it takes requests", lambda e: e.failure is None)
        for name, about in (
            ("steps", "turns of the engine"),
            ("tokens", "generated"),
            ("prompt_tokens", "read"),
            ("reused", "tokens of prompts that were copied instead of read"),
            ("graph", "seconds inside the model's graph"),
            ("chain", "seconds inside the strategies"),
        ):
            counter = CounterMetricFamily(f"decodekit_engine_{name}", about, labels=["model"])
            for served in self._models.loaded:
                counter.add_metric([served.name], getattr(served.decoder.engine.meter, name))
            yield counter

    def _gauge(self, name: str, about: str, value: Callable[[Engine], float]) -> GaugeMetricFamily:
        gauge = GaugeMetricFamily(f"decodekit_engine_{name}", about, labels=["model"])
        for served in self._models.loaded:
            gauge.add_metric([served.name], float(value(served.decoder.engine)))
        return gauge
