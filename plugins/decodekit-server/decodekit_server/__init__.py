"""
A server for applications that speak the APIs of OpenAI and Anthropic.

Read in the order a request flows: `connection` bounds the socket, `guard` lets a request in or
not, `endpoint` reads and checks it against `params`, `ask` is what all text APIs come down to,
`preparing` prepares it, `answers` follows the engine, and the modules of `api` write what each
API calls an answer.
"""

from decodekit.hookspecs import Register, hookimpl
from decodekit_server.serve_command import Serve


@hookimpl
def register_commands(register: Register) -> None:
    register("serve", Serve)
