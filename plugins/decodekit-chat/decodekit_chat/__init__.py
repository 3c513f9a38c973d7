"""Talking with a model in the terminal: `conversation` knows no terminal, `chat_command` is one."""

from decodekit.hookspecs import Register, hookimpl
from decodekit_chat.chat_command import ChatCommand


@hookimpl
def register_commands(register: Register) -> None:
    register("chat", ChatCommand)
