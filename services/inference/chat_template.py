"""Renders a conversation to a prompt with the model's own chat template, in a sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.common.errors import invalid
from services.inference.model_file import ModelFileError, PromptFacts

_ZERO_WIDTH_SPACE: Final = "\u200b"

TemplateMessage = Mapping[str, str]
"""A message as templates know it: `role` and `content`."""


class ChatTemplate:
    """A model's chat template, compiled."""

    def __init__(self, facts: PromptFacts) -> None:
        """Compiles the template.

        Raises:
            ModelFileError: it is not valid Jinja.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols],
            autoescape=False,
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(facts.template)
        except jinja2.TemplateError as error:
            raise ModelFileError(f"its chat template is not valid: {error.message}") from error
        self.facts = facts
        """What the model's file says."""
        longest_first = sorted(facts.control_tokens, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def render(self, messages: Sequence[TemplateMessage], continue_after: str = "") -> str:
        """Gives the prompt that the model is to go on from. Not for the event loop: long texts take milliseconds.

        Args:
            messages: the conversation; what looks like a control token in them stays text.
            continue_after: the beginning of the answer, when the model is to go on after it; text as well.

        Raises:
            MycelError: INVALID_ARGUMENT, when the template refuses the conversation, such as for its order of roles.
        """
        plain = [{**message, "content": self._as_text(message["content"])} for message in messages]
        try:
            prompt = self._template.render(
                messages=plain,
                add_generation_prompt=True,
                bos_token=self.facts.bos_token,
                eos_token=self.facts.eos_token,
            )
        except jinja2.TemplateError as error:
            raise invalid("messages", f"the model's chat template refuses them: {error.message}") from error
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise invalid("messages", "the model's chat template cannot render them") from error
        if self.facts.adds_bos and self.facts.bos_token:
            prompt = prompt.removeprefix(self.facts.bos_token)  # or it would be there twice
        return prompt + self._as_text(continue_after)

    def _as_text(self, content: str) -> str:
        """Breaks the spelling of every control token, so that no message can speak for another role.

        A space of no width goes into it: the engine reads a prompt as one text and would take the token as a command.
        """
        if self._control is None:
            return content
        return self._control.sub(lambda match: match[0][0] + _ZERO_WIDTH_SPACE + match[0][1:], content)


def _to_json(value: Any, indent: int | None = None) -> str:
    """Jinja's own filter would escape for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
