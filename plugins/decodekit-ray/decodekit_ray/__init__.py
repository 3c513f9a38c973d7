"""`decodekit batch ... --ray ADDRESS`: the same job, decoded by actors of a Ray cluster."""

from decodekit import hookimpl
from decodekit.hookspecs import Register
from decodekit_ray.command import RayBatch


@hookimpl
def register_commands(register: Register) -> None:
    register("batch", RayBatch)
