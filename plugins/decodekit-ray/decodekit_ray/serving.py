"""
Serving: the application that Ray Serve runs. One deployment a model, one ingress before all.

A deployment of its own, since models differ in what they need: replicas, memory, a GPU or none.
Serve's multiplexing would load and evict bundles while requests wait, which takes seconds each
and drops caches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decodekit_server.auth import VARIABLE, Keys, read_keys
from decodekit_server.hosts import Hosts
from decodekit_server.limits import Limits
from decodekit_server.models import free_name, parted
from ray import serve
from ray.serve.deployment import Application

from decodekit.bundle import open_bundle
from decodekit.errors import InputError
from decodekit.plugin_choice import allowed
from decodekit.plugins import Plugins, load_plugins
from decodekit_ray.ingress import Ingress
from decodekit_ray.replica import Model, Replica, software

HEALTH_SECONDS = 5.0  # between two looks at a replica; Serve replaces it after three that failed


@dataclass(frozen=True)
class Scale:
    """How many replicas each model has, and of what size.

    least, most  replicas; where they differ, Serve chooses, so that each has about `rows` requests
    rows         answers that decode together in one
    cpus, gpus   that one takes of its node
    ingresses    processes that let requests in
    """

    least: int = 1
    most: int = 1
    rows: int = 16
    cpus: float = 1.0
    gpus: float = 0.0
    ingresses: int = 1


def describe(written: Sequence[str], load: Mapping[str, Any], plugins: Plugins) -> list[Model]:
    """The models of [NAME=]BUNDLE. InputError for names that cannot be told apart."""
    models: dict[str, Model] = {}
    for one in written:
        name, path = parted(one)
        bundle = open_bundle(path)
        name = free_name(name or bundle.name, models)
        names = (name, *(f"{name}:{adapter}" for adapter in bundle.adapters))
        models[name] = Model(names, path, bundle.sha256, load, software(plugins))
    return list(models.values())


def application(
    models: Sequence[Model], scale: Scale, *, hosts: Hosts, keys: Keys, limits: Limits
) -> Application:
    """What `serve.run` takes."""
    shared: dict[str, Any] = {
        "graceful_shutdown_timeout_s": limits.drain_seconds,
        "health_check_period_s": HEALTH_SECONDS,
    }
    size: dict[str, Any] = {"num_replicas": scale.least}
    if scale.most > scale.least:
        size = {
            "autoscaling_config": {
                "min_replicas": scale.least,
                "max_replicas": scale.most,
                "target_ongoing_requests": scale.rows,
            }
        }
    replicas = serve.deployment(
        ray_actor_options={"num_cpus": scale.cpus, "num_gpus": scale.gpus},
        max_ongoing_requests=2 * scale.rows,  # its engine stays full, and the rest waits for any replica
        max_queued_requests=limits.queue,
        **size,
        **shared,
    )(Replica)
    engines = [replicas.options(name=model.names[0]).bind(model, limits) for model in models]
    door = serve.deployment(
        name="ingress",
        num_replicas=scale.ingresses,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=limits.connections,
        **shared,
    )(serve.ingress()(Ingress))
    return door.bind(list(models), engines, hosts=hosts, keys=keys, limits=limits)


def app(args: Mapping[str, Any]) -> Application:
    """For a config file of Ray Serve, as import_path decodekit_ray.serving:app with these args:

    bundles     list of [NAME=]BUNDLE
    host_names  list of names by which requests call the server; default: addresses only
    key_file    of keys, one a line; default: DECODEKIT_API_KEY. One of them is needed
    scale       fields of `Scale`
    limits      fields of `Limits`
    load        options of `decodekit.load`, such as device
    """
    known = {"bundles", "host_names", "key_file", "scale", "limits", "load"}
    if unknown := sorted(args.keys() - known):
        raise InputError(f"args: {', '.join(unknown)} is not known; there are {', '.join(sorted(known))}")
    keys = read_keys(Path(args["key_file"]) if "key_file" in args else None)
    if not keys:
        raise InputError(f"a key is needed; set {VARIABLE} or give key_file")
    scale, limits = Scale(**args.get("scale", {})), Limits(**args.get("limits", {}))
    load = {"max_rows": scale.rows, "max_queue": limits.queue, **args.get("load", {})}
    return application(
        describe(args["bundles"], load, load_plugins(allowed())),
        scale,
        hosts=Hosts.of("0.0.0.0", args.get("host_names", ())),
        keys=keys,
        limits=limits,
    )
