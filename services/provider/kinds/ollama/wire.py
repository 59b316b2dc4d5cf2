"""The contract's messages in the form of Ollama's chat API, and back."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any, Final

from mycel.chat.v1 import types_pb2 as chat
from pydantic import BaseModel, ConfigDict

from services.provider.capabilities import Model
from services.provider.requirements import unsupported

_ROLES: Final = {
    chat.ROLE_SYSTEM: "system",
    chat.ROLE_DEVELOPER: "system",
    chat.ROLE_USER: "user",
    chat.ROLE_ASSISTANT: "assistant",
    chat.ROLE_TOOL: "tool",
}
_FINISH: Final = {"stop": chat.FINISH_REASON_STOP, "length": chat.FINISH_REASON_LENGTH}
_OPTIONS: Final = (
    ("num_predict", "max_tokens"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("seed", "seed"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
)


class Line(BaseModel):
    """One line of an answer, as far as it is read."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    message: dict[str, Any] = {}
    logprobs: list[dict[str, Any]] | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int = 0
    prompt_eval_cached_count: int = 0
    eval_count: int = 0


class Answer:
    """One answer as it comes in."""

    def __init__(self) -> None:
        self.usage = chat.Usage()
        self._calls = 0

    def read(self, line: Line) -> Iterator[chat.ChoiceDelta]:
        """Gives the contract's pieces for a line. An unknown reason to end ends the answer as `stop` does."""
        text = str(line.message.get("content") or "")
        calls = [self._call(call) for call in line.message.get("tool_calls") or ()]
        logprobs = [_logprob(token) for token in line.logprobs or ()]
        finish = chat.FINISH_REASON_UNSPECIFIED
        if line.done:
            finish = _FINISH.get(line.done_reason or "stop", chat.FINISH_REASON_STOP)
            if self._calls and finish == chat.FINISH_REASON_STOP:
                finish = chat.FINISH_REASON_TOOL_CALLS
            self.usage = chat.Usage(
                prompt_tokens=max(line.prompt_eval_count, 0),
                completion_tokens=max(line.eval_count, 0),
                cached_prompt_tokens=max(line.prompt_eval_cached_count, 0),
            )
        if text or calls or logprobs or finish:
            yield chat.ChoiceDelta(text=text, tool_calls=calls, logprobs=logprobs, finish_reason=finish)

    def _call(self, call: dict[str, Any]) -> chat.ToolCallDelta:
        function = call["function"]
        arguments = function.get("arguments")
        index = self._calls
        self._calls += 1
        return chat.ToolCallDelta(
            index=index,
            # Older servers give no ids, and a tool's answer has to name the call.
            id=str(call.get("id") or f"call_{uuid.uuid4().hex[:24]}"),
            name=str(function["name"]),
            arguments_json=arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False),
        )


def request(model: Model, value: chat.ChatInput) -> dict[str, Any]:
    """Gives the body of `/api/chat`.

    Raises:
        MycelError: UNSUPPORTED_FEATURE, for what only this API cannot express.
    """
    called: dict[str, str] = {}
    body: dict[str, Any] = {
        "model": model.upstream,
        "messages": [_message(model, message, index, called) for index, message in enumerate(value.messages)],
        "stream": True,
        # The server would otherwise cut a conversation that is too long down to what fits, without a word.
        "truncate": False,
        "shift": False,
        "options": _options(model, value.parameters),
    }
    # A choice of no tool is kept by naming none.
    if value.tools and value.tool_choice.mode != chat.TOOL_CHOICE_MODE_NONE:
        body["tools"] = [_tool(tool) for tool in value.tools]
    match value.response_format.WhichOneof("format"):
        case "json_object" if value.response_format.json_object:
            body["format"] = "json"
        case "json_schema":
            body["format"] = json.loads(value.response_format.json_schema.schema_json)
    if value.parameters.logprobs:
        body["logprobs"] = True
        body["top_logprobs"] = value.parameters.top_logprobs
    effort = value.parameters.reasoning_effort
    if effort:
        body["think"] = False if effort == "none" else effort
    return body


def _options(model: Model, given: chat.GenerationParameters) -> dict[str, Any]:
    options: dict[str, Any] = {
        name: getattr(given, ours)
        for name, ours in _OPTIONS
        if given.HasField(ours)  # type: ignore[arg-type]
    }
    if given.stop:
        options["stop"] = list(given.stop)
    if model.configured_context is not None:
        options["num_ctx"] = model.configured_context
    return options


def _message(model: Model, message: chat.Message, index: int, called: dict[str, str]) -> dict[str, Any]:
    texts = [part.text for part in message.content if part.WhichOneof("part") == "text"]
    if message.refusal:
        texts.append(message.refusal)
    body: dict[str, Any] = {"role": _ROLES[message.role], "content": "".join(texts)}
    images = [part.image for part in message.content if part.WhichOneof("part") == "image"]
    if images:
        body["images"] = [base64.b64encode(image.data).decode() for image in images]
    if message.tool_calls:
        called.update((call.id, call.name) for call in message.tool_calls)
        body["tool_calls"] = [
            _call(model, call, f"messages[{index}].tool_calls[{place}].arguments_json")
            for place, call in enumerate(message.tool_calls)
        ]
    if message.tool_call_id:
        body["tool_call_id"] = message.tool_call_id
        # Older servers and most templates tell results apart by the tool's name.
        if message.tool_call_id in called:
            body["tool_name"] = called[message.tool_call_id]
    return body


def _call(model: Model, call: chat.ToolCall, path: str) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments_json or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise unsupported(model, path, "takes earlier calls with a JSON object as arguments only")
    return {"id": call.id, "function": {"name": call.name, "arguments": arguments}}


def _tool(tool: chat.Tool) -> dict[str, Any]:
    schema = json.loads(tool.parameters_schema_json) if tool.parameters_schema_json else {}
    function = {"name": tool.name, "description": tool.description, "parameters": {"type": "object", **schema}}
    return {"type": "function", "function": function}


def _logprob(token: dict[str, Any]) -> chat.TokenLogprob:
    return chat.TokenLogprob(
        token=token["token"],
        logprob=token["logprob"],
        token_bytes=bytes(token.get("bytes") or ()),
        top=[
            chat.TopLogprob(token=top["token"], logprob=top["logprob"], token_bytes=bytes(top.get("bytes") or ()))
            for top in token.get("top_logprobs") or ()
        ],
    )
