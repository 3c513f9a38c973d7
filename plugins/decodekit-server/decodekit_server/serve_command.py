"""decodekit serve [NAME=]BUNDLE ..."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decodekit.commands.asking import add_machine
from decodekit.errors import InputError, ParameterError
from decodekit.hookspecs import Command
from decodekit.parameters import whole

if TYPE_CHECKING:
    from decodekit.decoder import Decoder
    from decodekit.plugins import Plugins
    from decodekit_server.limits import Limits
    from decodekit_server.models import Models
    from decodekit_server.telemetry import Telemetry


class Serve(Command):
    """The verb."""

    help = "serve bundles to applications that speak the APIs of OpenAI and Anthropic"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "bundles", nargs="+", metavar="[NAME=]BUNDLE", help="a folder, or an embedded model"
        )
        parser.add_argument(
            "--host", default="127.0.0.1", help="address; another than this machine's needs a key"
        )
        parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
        parser.add_argument(
            "--host-name",
            action="append",
            default=[],
            metavar="NAME",
            help="by which a proxy or network calls it",
        )
        parser.add_argument(
            "--key-file", type=Path, metavar="F", help="keys, one a line; else DECODEKIT_API_KEY is the key"
        )
        parser.add_argument("--rows", type=int, default=16, metavar="N", help="answers that decode together")
        parser.add_argument("--deterministic", action="store_true", help="every answer in calls of its own")
        parser.add_argument(
            "--draft", metavar="BUNDLE", help="a smaller model that guesses, for the first one"
        )
        parser.add_argument(
            "--limit",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="see docs/serve.md for the names",
        )
        parser.add_argument(
            "--otel", action="store_true", help="spans of requests, to where the OTEL_* variables say"
        )
        parser.add_argument("--quiet", action="store_true", help="no line for every request")
        add_machine(parser)

    def run(self, args: argparse.Namespace) -> int:
        from decodekit_server.app import create_app
        from decodekit_server.auth import VARIABLE, read_keys
        from decodekit_server.hosts import Hosts
        from decodekit_server.server import Server, allow_files, end_with_terminal, listen

        whole("--port", args.port, "[0, 65535]")
        hosts, limits = Hosts.of(args.host, args.host_name), _limits(args.limit)
        keys = read_keys(args.key_file)
        if not hosts.is_local and not keys:
            raise InputError(
                f"--host {args.host} can be reached from elsewhere, so a key is needed; "
                f"set {VARIABLE} or give --key-file"
            )
        allow_files(limits.connections)
        end_with_terminal()
        telemetry = _telemetry() if args.otel else None
        listening = listen(args.host, args.port)
        logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", level=logging.WARNING)
        logging.getLogger("decodekit_server").setLevel(logging.WARNING if args.quiet else logging.INFO)
        with listening:
            models = _load(args, limits, self.plugins)
            address = listening.getsockname()
            where = f"[{address[0]}]" if ":" in address[0] else address[0]
            print(
                f"serving {', '.join(models.by_name)} on http://{where}:{address[1]}, "
                f"{'with' if keys else 'without'} a key",
                flush=True,
            )
            for served in models.loaded:
                bundle, engine = served.decoder.bundle, served.decoder.engine
                print(
                    f"  {served.name}: {served.health()['provider']}, {bundle.context_length} tokens, "
                    f"{engine.max_rows} rows, caches of at most {engine.cache_bytes >> 20} MiB",
                    flush=True,
                )
            app = create_app(models, hosts=hosts, keys=keys, limits=limits, telemetry=telemetry)
            server = Server(app, limits)
            try:
                server.run(sockets=[listening])
            finally:
                models.end()
        return 4 if server.failed else 0


def _load(args: argparse.Namespace, limits: Limits, plugins: Plugins) -> Models:
    from decodekit.loading import load
    from decodekit.memory import free_memory
    from decodekit_server.models import NAME, Models

    share = free_memory() // 2 // len(args.bundles)
    by_name: dict[str, Decoder] = {}
    for i, written in enumerate(args.bundles):
        name, equals, path = written.partition("=")
        decoder = load(
            path if equals else written,
            device=args.device,
            threads=args.threads,
            plugins=plugins,
            draft=args.draft if i == 0 else None,
            max_rows=args.rows,
            cache_bytes=share,
            max_queue=limits.queue,
            deterministic=args.deterministic,
            stall=limits.stall_seconds,
        )
        name = name if equals else decoder.bundle.name
        if not NAME.fullmatch(name):
            raise InputError(
                f"{name!r} cannot be a model's name; write NAME=BUNDLE with letters, digits, . _ -"
            )
        if name in by_name:
            raise InputError(f"{name} is given twice; write NAME=BUNDLE to tell them apart")
        by_name[name] = decoder
    return Models.of(by_name)


def _telemetry() -> Telemetry:
    try:
        from decodekit_server.spans import Spans
    except ImportError as exc:
        raise InputError(
            "--otel needs OpenTelemetry; pip install 'decodekit-server[otel]', or leave it out"
        ) from exc
    return Spans.exported()


def _limits(written: list[str]) -> Limits:
    from dataclasses import fields

    from decodekit_server.limits import Limits

    kinds: dict[str, Any] = {field.name: type(field.default) for field in fields(Limits)}
    values: dict[str, Any] = {}
    for one in written:
        name, _, value = one.partition("=")
        if name not in kinds:
            raise ParameterError(f"no limit named {name!r}; limits: {', '.join(kinds)}")
        try:
            values[name] = kinds[name](value)
        except ValueError as exc:
            raise ParameterError(f"{name} must be a number, got {value!r}") from exc
    return Limits(**values)
