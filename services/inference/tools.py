"""What a call says about tools: for the template, for the engine, and for reading the answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from mycel.chat.v1 import types_pb2 as chat
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.errors import MycelError, invalid
from services.inference.chat_template import TemplateTool

_NO_ARGUMENTS: Final = {"type": "object", "properties": {}}
_DEFINITIONS: Final = ("$defs", "definitions")


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of one call; none when it has none, or wants none called."""

    tools: tuple[TemplateTool, ...] = ()
    """In OpenAI's form."""
    forced: tuple[str, ...] = ()
    """The names of those of which one must be called; none when the model decides."""
    one_call: bool = False
    """Whether the answer may hold one call at most."""

    @property
    def names(self) -> frozenset[str]:
        """The tools' names."""
        return frozenset(tool["function"]["name"] for tool in self.tools)

    def sampling(self) -> dict[str, Any]:
        """Gives the sampling parameters that tools need: vLLM's."""
        if not self.tools:
            return {}
        keeping: dict[str, Any] = {"skip_special_tokens": False}  # one of them may open a call
        if self.forced:
            keeping["structured_outputs"] = {"json": _schema_of_a_call(self._parameters_of_forced())}
        return keeping

    def _parameters_of_forced(self) -> dict[str, dict[str, Any]]:
        functions = [tool["function"] for tool in self.tools]
        return {each["name"]: each["parameters"] for each in functions if each["name"] in self.forced}


def tool_use(value: chat.ChatInput, *, takes_tools: bool) -> ToolUse:
    """Reads what a call says about tools.

    Args:
        value: the input.
        takes_tools: whether the model's template knows tools.

    Raises:
        MycelError: INVALID_ARGUMENT for a schema that is no JSON object; UNSUPPORTED_FEATURE when the model knows no
            tools, or cannot be held to a schema.
    """
    choice = value.tool_choice
    if not value.tools or choice.mode == chat.TOOL_CHOICE_MODE_NONE:
        return ToolUse()
    if not takes_tools:
        raise unsupported("tools", "calling tools")
    tools = tuple(_template_tool(tool, f"tools[{index}]") for index, tool in enumerate(value.tools))
    names = tuple(tool.name for tool in value.tools)
    if choice.WhichOneof("choice") == "function_name":
        if choice.function_name not in names:
            raise invalid("tool_choice", "must name one of the tools")
        forced: tuple[str, ...] = (choice.function_name,)
    else:
        forced = names if choice.mode == chat.TOOL_CHOICE_MODE_REQUIRED else ()
    for index, tool in enumerate(value.tools):
        if tool.strict and not forced:
            raise unsupported(f"tools[{index}].strict", "being held to a schema unless a tool must be called")
    parameters = value.parameters
    one_call = parameters.HasField("parallel_tool_calls") and not parameters.parallel_tool_calls
    return ToolUse(tools, forced, one_call)


def unsupported(field: str, what: str) -> MycelError:
    """Refuses what the model cannot do."""
    return MycelError(
        ErrorReason.ERROR_REASON_UNSUPPORTED_FEATURE, f"{field}: this local model does not support {what}", field=field
    )


def _template_tool(tool: chat.Tool, path: str) -> TemplateTool:
    try:
        parameters = json.loads(tool.parameters_schema_json or "{}")
    except (ValueError, RecursionError):
        raise invalid(f"{path}.parameters", "is not JSON") from None
    if not isinstance(parameters, dict):
        raise invalid(f"{path}.parameters", "must be a JSON object")
    function = {"name": tool.name, "description": tool.description, "parameters": parameters or _NO_ARGUMENTS}
    return {"type": "function", "function": function}


def _schema_of_a_call(parameters: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Gives the schema of a call of one of these functions. Definitions move to the top, where references lead."""
    shared: dict[str, dict[str, Any]] = {}
    calls = []
    for name, schema in parameters.items():
        for key in _DEFINITIONS:
            definitions = schema.get(key)
            for defined, what in definitions.items() if isinstance(definitions, dict) else ():
                if shared.setdefault(key, {}).setdefault(defined, what) != what:
                    raise invalid("tools", f"two schemas define {defined!r} differently, and one must be called")
        own = {key: part for key, part in schema.items() if key not in _DEFINITIONS}
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": name}, "parameters": own},
                "required": ["name", "parameters"],
                "additionalProperties": False,
            }
        )
    return {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), **shared}
