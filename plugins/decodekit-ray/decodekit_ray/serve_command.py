"""decodekit serve-ray [NAME=]BUNDLE ..."""

from __future__ import annotations

import argparse
import signal
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from decodekit.commands.asking import add_machine
from decodekit.errors import DeviceError, ParameterError
from decodekit.hookspecs import Command
from decodekit.parameters import real, whole

if TYPE_CHECKING:
    from decodekit_ray.serving import Scale

NAME = "decodekit"  # of the application
LOGGING = {"enable_access_log": False}  # it would hold what clients wrote into paths
PROXYS = ("idle_seconds", "write_seconds")  # limits that Ray Serve's HTTP proxy does not keep


class ServeRay(Command):
    """The verb."""

    help = "serve bundles as `decodekit serve` does, by replicas on a Ray cluster"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "bundles", nargs="+", metavar="[NAME=]BUNDLE", help="a folder, or an embedded model"
        )
        parser.add_argument(
            "--host", default="127.0.0.1", help="address; another than this machine's needs a key"
        )
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument(
            "--host-name", action="append", default=[], metavar="NAME", help="by which a network calls it"
        )
        parser.add_argument(
            "--key-file", type=Path, metavar="F", help="keys, one a line; else DECODEKIT_API_KEY is the key"
        )
        parser.add_argument("--rows", type=int, default=16, metavar="N", help="answers that decode together")
        parser.add_argument("--deterministic", action="store_true", help="every answer in calls of its own")
        parser.add_argument(
            "--limit", action="append", default=[], metavar="NAME=VALUE", help="see docs/serve.md"
        )
        add_machine(parser)
        ray = parser.add_argument_group("on a Ray cluster")
        ray.add_argument(
            "--ray", default="local", metavar="ADDRESS", help="host:port, auto, or local to start one here"
        )
        ray.add_argument(
            "--ray-replicas", default="1", metavar="N[:M]", help="of each model; N:M: as many as are needed"
        )
        ray.add_argument("--ray-cpus", type=float, default=1, metavar="K", help="of each replica")
        ray.add_argument("--ray-gpus", type=float, default=0, metavar="K", help="of each replica")
        ray.add_argument("--ray-ingresses", type=int, default=1, metavar="N", help="that let requests in")

    def run(self, args: argparse.Namespace) -> int:
        for module, package in (("ray", "ray[serve]"), ("decodekit_server", "decodekit-server")):
            if find_spec(module) is None:
                raise DeviceError(f"serve-ray needs {package}; pip install 'decodekit-ray[serve]'")
        from decodekit_server.auth import admission
        from decodekit_server.limits import Limits
        from decodekit_server.server import listen
        from ray import serve

        from decodekit_ray.cluster import connect, line, ray
        from decodekit_ray.serving import application, describe

        limits = Limits.of(args.limit, without=PROXYS, where=" with Ray")
        hosts, keys = admission(args.host, args.host_name, args.key_file)
        whole("--port", args.port, "[1, 65535]")
        listen(args.host, args.port).close()  # or Serve's proxy fails where nobody sees it
        scale = _scale(args)
        load = {
            **{"device": args.device, "threads": args.threads, "deterministic": args.deterministic},
            **{"max_rows": args.rows, "max_queue": limits.queue, "stall": limits.stall_seconds},
        }
        models = describe(args.bundles, load, self.plugins)
        connect(args.ray, scale.most * scale.cpus * len(models))
        try:
            serve.start(
                proxy_location="HeadOnly" if hosts.is_local else "EveryNode",
                http_options={"host": args.host, "port": args.port},
                logging_config=LOGGING,
            )
            app = application(models, scale, hosts=hosts, keys=keys, limits=limits)
            serve.run(app, name=NAME, route_prefix="/", logging_config=LOGGING)
            print(
                f"serving {', '.join(model.names[0] for model in models)} on http://{args.host}:{args.port}, "
                f"{'with' if keys else 'without'} a key, {args.ray_replicas} replicas each",
                flush=True,
            )
            _wait()
        except RuntimeError as exc:
            raise DeviceError(f"serve-ray: {_why() or line(exc)}") from exc
        finally:
            serve.delete(NAME)  # lets end what runs, within drain_seconds
            if args.ray == "local":
                ray.shutdown()
        return 0


def _why() -> str:
    """What a replica that could not be started raised last."""
    from ray import serve

    found = serve.status().applications.get(NAME)
    told = [one.message for one in found.deployments.values()] if found else []
    lines = [line for message in told for line in message.splitlines() if ": " in line]
    return lines[-1].partition(": ")[2] if lines else ""  # behind the error's class


def _wait() -> None:
    """Until somebody says that it is enough."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


def _scale(args: argparse.Namespace) -> Scale:
    from decodekit_ray.serving import Scale

    least, colon, most = args.ray_replicas.partition(":")
    try:
        counts = int(least), int(most) if colon else int(least)
    except ValueError as exc:
        raise ParameterError(f"--ray-replicas must be N or N:M, got {args.ray_replicas!r}") from exc
    if not 1 <= counts[0] <= counts[1]:
        raise ParameterError(f"--ray-replicas must be N or N:M with 1 <= N <= M, got {args.ray_replicas!r}")
    whole("--rows", args.rows, "[1, inf)")
    whole("--ray-ingresses", args.ray_ingresses, "[1, inf)")
    real("--ray-cpus", args.ray_cpus, "[0, inf)")
    real("--ray-gpus", args.ray_gpus, "[0, inf)")
    return Scale(*counts, args.rows, args.ray_cpus, args.ray_gpus, args.ray_ingresses)
