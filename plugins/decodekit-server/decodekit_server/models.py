"""The models of a server, by the names that requests use. A name is looked up, never a path."""

from __future__ import annotations

import re
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from decodekit.decoder import Decoder
from decodekit.errors import InputError
from decodekit_server.errors import ApiError, not_one_of

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


def parted(written: str) -> tuple[str, str]:
    """Of [NAME=]BUNDLE the name, "" where there is none, and the bundle."""
    name, equals, path = written.partition("=")
    return (name, path) if equals else ("", written)


def free_name(name: str, taken: Container[str]) -> str:
    """A name for one more model. InputError where it can be none, or is taken."""
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be a model's name; write NAME=BUNDLE with letters, digits, . _ -")
    if name in taken:
        raise InputError(f"{name} is given twice; write NAME=BUNDLE to tell them apart")
    return name


def unknown_model(name: str, known: Iterable[str]) -> ApiError:
    """What a request is told that names a model which there is not."""
    way_out = not_one_of(name[:128], known)
    return ApiError(404, "model_not_found", f"model: no model named {name!r:.80}; {way_out}", "model")


@dataclass(frozen=True)
class Served:
    """A decoder under a name.

    adapter      of its bundle, under which it decodes for this name; None: as it is
    fingerprint  names the bundle's content and the software: the same one, the same tokens
    """

    name: str
    decoder: Decoder
    fingerprint: str
    adapter: str | None = None
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def of(cls, name: str, decoder: Decoder, adapter: str | None = None) -> Served:
        hashed = decoder.bundle.sha256
        return cls(name, decoder, f"{hashed[:16]}-decodekit-{metadata.version('decodekit')}", adapter)

    def failure(self, stall: float) -> str:
        """Why it cannot answer; "" where it can.

        stall  seconds after which a step counts as stuck
        """
        engine = self.decoder.engine
        if engine.failure is not None:
            return str(engine.failure)
        return f"no step for {engine.age:.1f} s" if engine.age > stall else ""

    def health(self) -> dict[str, Any]:
        """Of its engine, for people and probes."""
        engine = self.decoder.engine
        return {
            "provider": getattr(self.decoder.model, "provider", ""),
            "running": engine.running,
            "waiting": engine.waiting,
            "steps": engine.meter.steps,
            "step_seconds": round(engine.age, 3),
        }


@dataclass(frozen=True, slots=True)
class Models:
    """Of a server."""

    by_name: Mapping[str, Served]

    @classmethod
    def of(cls, decoders: Mapping[str, Decoder]) -> Models:
        """Each decoder under its name, and each adapter of its bundle as NAME:ADAPTER."""
        by_name: dict[str, Served] = {}
        for name, decoder in decoders.items():
            by_name[name] = Served.of(name, decoder)
            for adapter in decoder.bundle.adapters:
                by_name[f"{name}:{adapter}"] = Served.of(f"{name}:{adapter}", decoder, adapter)
        return cls(by_name)

    @property
    def loaded(self) -> list[Served]:
        """One for each decoder."""
        return [served for served in self if served.adapter is None]

    def find(self, name: str) -> Served:
        if name in self.by_name:
            return self.by_name[name]
        raise unknown_model(name, self.by_name)

    def __iter__(self) -> Iterator[Served]:
        return iter(self.by_name.values())

    def end(self) -> None:
        """End all that runs; its clients are told."""
        for served in self.loaded:
            served.decoder.close()

    def failures(self, stall: float) -> dict[str, str]:
        """Of the models that cannot answer: why."""
        found = {served.name: served.failure(stall) for served in self.loaded}
        return {name: why for name, why in found.items() if why}
