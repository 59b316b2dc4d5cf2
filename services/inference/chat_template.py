"""Renders a conversation to a prompt with the model's own chat template, in a sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.common.errors import invalid
from services.inference.model_file import ModelFileError, PromptFacts
from services.inference.prompt import PlainText, Prompt

TemplateMessage = Mapping[str, Any]
"""A message as templates know it: `role`, `content`, and `tool_calls` with their arguments as a map."""

TemplateTool = Mapping[str, Any]
"""A tool as templates know it: OpenAI's form."""

_NO_TOOLS: Final[Sequence[TemplateTool]] = ()


def _local_time() -> datetime:
    return datetime.now().astimezone()


class ChatTemplate:
    """A model's chat template, compiled."""

    def __init__(self, facts: PromptFacts, now: Callable[[], datetime] = _local_time) -> None:
        """Compiles the template.

        Args:
            facts: what the model's file says.
            now: the clock, for templates that tell the date.

        Raises:
            ModelFileError: it is not valid Jinja.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _GenerationBlock],
            autoescape=False,
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        try:
            names = meta.find_undeclared_variables(environment.parse(facts.template))
            self._template = environment.from_string(facts.template)
        except jinja2.TemplateError as error:
            raise ModelFileError(f"its chat template is not valid: {error.message}") from error
        self.facts = facts
        """What the model's file says."""
        self.takes_tools = "tools" in names
        """Whether the template tells the model of tools."""
        self._plain = PlainText(facts.control_tokens)

    def render(
        self,
        messages: Sequence[TemplateMessage],
        tools: Sequence[TemplateTool] = _NO_TOOLS,
        continue_after: str = "",
    ) -> Prompt:
        """Gives the prompt that the model is to go on from. Not for the event loop: long texts take milliseconds.

        Args:
            messages: the conversation; what looks like a control token in them stays text.
            tools: what the model may call; text as well.
            continue_after: the beginning of the answer, when the model is to go on after it; text as well.

        Raises:
            MycelError: INVALID_ARGUMENT, when the template refuses the conversation, such as for its order of roles.
        """
        try:
            rendered = self._template.render(
                messages=[self._marked_message(message) for message in messages],
                tools=self._plain.marked(list(tools)) or None,
                documents=None,
                add_generation_prompt=True,
                bos_token=self.facts.bos_token,
                eos_token=self.facts.eos_token,
            )
        except jinja2.TemplateError as error:
            raise invalid("messages", f"the model's chat template refuses them: {error.message}") from error
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise invalid("messages", "the model's chat template cannot render them") from error
        rendered += self._plain.marked(continue_after)
        return self._plain.prompt(rendered, bos=self.facts.bos_token, engine_adds_bos=self.facts.adds_bos)

    def _marked_message(self, message: TemplateMessage) -> TemplateMessage:
        return {name: value if name == "role" else self._plain.marked(value) for name, value in message.items()}


class _GenerationBlock(Extension):
    """Reads `{% generation %}`, with which templates for training frame an answer, as if it were not there."""

    def __init__(self, environment: jinja2.Environment) -> None:
        self.tags = {"generation"}
        super().__init__(environment)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter would escape for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
