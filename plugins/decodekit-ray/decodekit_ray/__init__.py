"""
decodekit on a Ray cluster.

`decodekit batch ... --ray ADDRESS`, the same job by actors: `command`, `actors`.
`decodekit serve-ray`, the same server by replicas: `serve_command`, `serving`, and then as a request
flows, `ingress`, `replica`, `retelling`.
"""

from decodekit import hookimpl
from decodekit.hookspecs import Register
from decodekit_ray.command import RayBatch
from decodekit_ray.serve_command import ServeRay


@hookimpl
def register_commands(register: Register) -> None:
    register("batch", RayBatch)
    register("serve_ray", ServeRay)
