"""
Structured output: an answer is let through only if a grammar, a schema or an expression is.

Read in the order the data flows: a strategy (`regex`, `json_schema`, `lark`, `choice`, `tool_call`)
writes its grammar down; `vocabulary` and `compiler` make a matcher of it for a tokenizer, after a
process of its own (`child`) has shown that this ends; `grammar` asks a `cursor` for the matcher that
has read the answer so far what it allows, as a mask (`decodekit.edits`).

The matcher is that of llguidance, an Earley parser over lazily built regular expressions.
"""

from decodekit.hookspecs import Register, hookimpl
from decodekit_grammar.choice import Choice
from decodekit_grammar.grammar import Grammar
from decodekit_grammar.json_schema import JsonSchema
from decodekit_grammar.lark import Lark
from decodekit_grammar.regex import Regex
from decodekit_grammar.tool_call import ToolCall

__all__ = ["Choice", "Grammar", "JsonSchema", "Lark", "Regex", "ToolCall"]


@hookimpl
def register_logits_processors(register: Register) -> None:
    register("regex", Regex)
    register("json_schema", JsonSchema)
    register("lark", Lark)
    register("choice", Choice)
    register("tool_call", ToolCall)
