"""decodekit serve [NAME=]BUNDLE ..."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from decodekit.commands.asking import add_machine
from decodekit.errors import InputError
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
        from decodekit_server.auth import admission
        from decodekit_server.limits import Limits
        from decodekit_server.server import Server, allow_files, end_with_terminal, listen

        whole("--port", args.port, "[0, 65535]")
        limits = Limits.of(args.limit)
        hosts, keys = admission(args.host, args.host_name, args.key_file)
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
    from decodekit_server.models import Models, free_name, parted

    share = free_memory() // 2 // len(args.bundles)
    by_name: dict[str, Decoder] = {}
    for i, written in enumerate(args.bundles):
        name, path = parted(written)
        decoder = load(
            path,
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
        by_name[free_name(name or decoder.bundle.name, by_name)] = decoder
    return Models.of(by_name)


def _telemetry() -> Telemetry:
    try:
        from decodekit_server.spans import Spans
    except ImportError as exc:
        raise InputError(
            "--otel needs OpenTelemetry; pip install 'decodekit-server[otel]', or leave it out"
        ) from exc
    return Spans.exported()
