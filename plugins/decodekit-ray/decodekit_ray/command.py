"""`decodekit batch` with --ray. Where it is not given, nothing of Ray is imported."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from decodekit.commands.batch import Batch, begun_with
from decodekit.parameters import real, whole
from decodekit.plugin_choice import Choice

if TYPE_CHECKING:
    from decodekit.decoder import Decoder
    from decodekit.jobs.answering import Answerer


class RayBatch(Batch):
    """decodekit batch MODEL IN OUT --ray ADDRESS"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        ray = parser.add_argument_group("on a Ray cluster")
        ray.add_argument("--ray", metavar="ADDRESS", help="host:port, auto, or local to start one here")
        ray.add_argument("--ray-actors", type=int, default=2, metavar="N", help="each holds the model once")
        ray.add_argument("--ray-cpus", type=float, default=1, metavar="K", help="of each actor")
        ray.add_argument("--ray-gpus", type=float, default=0, metavar="K", help="of each actor")

    def answering(
        self, args: argparse.Namespace, decoder: Decoder, defaults: tuple[Any, ...], how: Mapping[str, Any]
    ) -> tuple[Callable[[int], Answerer], int]:
        if args.ray is None:
            return super().answering(args, decoder, defaults, how)
        from decodekit.gathering import AHEAD
        from decodekit_ray.actors import Actors, Engine

        whole("--ray-actors", args.ray_actors, "[1, inf)")
        real("--ray-cpus", args.ray_cpus, "[0, inf)")
        real("--ray-gpus", args.ray_gpus, "[0, inf)")
        engine = Engine(
            model=str(args.model),
            load={
                **{"device": args.device, "threads": args.threads},
                **{"max_rows": args.max_rows, "deterministic": args.deterministic},
            },
            plugins=Choice(frozenset(p.name for p in self.plugins.installed if p.state == "ok")),
            defaults=defaults,
            how=dict(how),
            facts=begun_with(decoder, {}),
        )
        cost = {"num_cpus": args.ray_cpus, "num_gpus": args.ray_gpus}
        ahead = AHEAD * args.max_rows

        def make(seed: int) -> Answerer:
            return Actors(engine, seed, address=args.ray, count=args.ray_actors, cost=cost, ahead=ahead)

        return make, ahead * args.ray_actors
