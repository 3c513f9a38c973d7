"""A call of one of several tools, as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from decodekit.errors import ParameterError
from decodekit_grammar.grammar import Grammar
from decodekit_grammar.json_schema import read_schema
from decodekit_grammar.json_subset import subschemas
from decodekit_grammar.notation import of_schema

FIELDS = {"name", "description", "parameters", "strict"}
NOTHING = {"type": "object", "additionalProperties": False}  # the arguments of a function that takes none


@dataclass(frozen=True, repr=False)
class ToolCall(Grammar):
    """Let through only a call of one of the tools: {"name": ..., "arguments": {...}}.

    formula   keep i where answer + i begins such an object; end tokens where the answer is one
    boundary  name before arguments; the arguments are valid against that tool's parameters
    ties      treated alike
    history   the answer's tokens; the prompt does not count
    neutral   none
    source    the OpenAI API, "tools" with "type": "function"; engine: llguidance
    """

    tools: Sequence[Mapping[str, Any]]
    whitespace: str = "blank"

    field: ClassVar[str] = "tools"

    def grammar(self) -> str:
        if not isinstance(self.tools, Sequence) or isinstance(self.tools, str) or not self.tools:
            raise ParameterError(f"tool_call: tools must be a list of functions, got {self.tools!r:.80}")
        calls = [_call(tool, f"tool_call: tools[{i}]", f"#/anyOf/{i}") for i, tool in enumerate(self.tools)]
        names = [call["properties"]["name"]["const"] for call in calls]
        if len(set(names)) < len(names):
            raise ParameterError(f"tool_call: tools must have different names, got {', '.join(names)}")
        return of_schema({"anyOf": calls}, self.whitespace, self.name)


def _call(tool: Any, where: str, root: str) -> dict[str, Any]:
    """The schema of a call of one tool, to stand at `root`."""
    function = _function(tool, where)
    where = f"{where}.parameters"
    arguments = read_schema(function.get("parameters", NOTHING), where)
    for place, part in subschemas(arguments, where):
        if isinstance(part, dict) and {"$id", "$anchor"} & part.keys():
            raise ParameterError(f"{place}: $id and $anchor mean nothing here; write $ref as #/$defs/NAME")
        if isinstance(part, dict) and isinstance(part.get("$ref"), str):
            part["$ref"] = re.sub("^#", f"{root}/properties/arguments", part["$ref"])
    return {
        "type": "object",
        "properties": {"name": {"const": function["name"]}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _function(tool: Any, where: str) -> Mapping[str, Any]:
    """What a tool says of its function; {"type": "function", "function": ...}, or that alone."""
    function = tool
    if isinstance(tool, Mapping) and "type" in tool:
        if tool["type"] != "function" or tool.keys() != {"type", "function"}:
            raise ParameterError(
                f'{where} must be {{"type": "function", "function": {{...}}}}, got {tool!r:.80}'
            )
        function = tool["function"]
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ParameterError(f"{where} must name its function, got {tool!r:.80}")
    if unknown := set(function) - FIELDS:
        raise ParameterError(f"{where} has {sorted(unknown)[0]!r}, which no function has; remove it")
    return function
