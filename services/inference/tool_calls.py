"""Reads calls of tools out of the text of a streamed answer.

Models write calls in their text, each family in its own way. Understood are Llama's JSON
(`{"name": ..., "parameters": ...}`, several with `;` between, after `<|python_tag|>` or without), JSON between
`<tool_call>` and `</tool_call>`, a list of such objects, and the pythonic list of Llama 3.2 (`[f(a=1), g()]`).
What begins like a call and turns out not to be one is text.
"""

from __future__ import annotations

import ast
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

_TAGS: Final = ("<|python_tag|>", "<tool_call>")
_OPENINGS: Final = (*_TAGS, "{", "[")
_BETWEEN: Final = ("</tool_call>", ";", ",", "<|eom_id|>")
_CLOSING: Final = {"{": "}", "[": "]"}


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool."""

    name: str
    arguments_json: str
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}", compare=False)


Part: TypeAlias = str | Call
"""Text of the answer, or a call in it."""


class ToolCallReader:
    """Takes an answer's text piece by piece and gives it back as text and calls.

    The answer begins in the dark: held back is what may be a call. Once plain text has come, only a tag opens a call.
    """

    def __init__(self, names: frozenset[str]) -> None:
        """Reads calls of the tools of these names; with none, everything is text."""
        self._names = names
        self._held = ""
        self._read: Callable[[], Iterator[Part]] = self._read_opening if names else self._read_all
        self._brackets = _Brackets()

    def feed(self, text: str) -> list[Part]:
        """Takes the next piece and gives what is settled now."""
        self._held += text
        return list(self._settled())

    def finish(self) -> list[Part]:
        """Gives what is left when the answer ends: a call that broke off is text."""
        rest, self._held = self._held, ""
        return [rest] if rest else []

    def _settled(self) -> Iterator[Part]:
        while True:
            read, held = self._read, self._held
            yield from read()
            if (self._read, self._held) == (read, held) or not self._held:
                return

    def _read_all(self) -> Iterator[Part]:
        text, self._held = self._held, ""
        if text:
            yield text

    def _read_opening(self) -> Iterator[Part]:
        start = self._held.lstrip()
        for opening in _OPENINGS:
            if start.startswith(opening):
                self._held = start.removeprefix(opening).lstrip() if opening in _TAGS else start
                if self._held[:1] in _CLOSING:
                    self._brackets = _Brackets()
                    self._read = self._read_call
                elif self._held:
                    self._read = self._read_text  # such as code after Llama's tag
                else:
                    self._held = start  # the tag alone says nothing yet
                return
            if opening.startswith(start):
                return  # it may still become this
        self._read = self._read_text
        yield from ()

    def _read_call(self) -> Iterator[Part]:
        end = self._brackets.end(self._held)
        if end is None:
            return
        whole, rest = self._held[:end], self._held[end:]
        calls = _calls(whole, self._names)
        if not calls:
            self._held = rest
            self._read = self._read_text
            yield whole
            return
        self._held = rest
        self._read = self._read_between
        yield from calls

    def _read_between(self) -> Iterator[Part]:
        self._held = self._held.lstrip()
        for mark in _BETWEEN:
            if self._held.startswith(mark):
                self._held = self._held.removeprefix(mark)
                return
            if mark.startswith(self._held):
                return
        self._read = self._read_opening
        yield from ()

    def _read_text(self) -> Iterator[Part]:
        places = [place for tag in _TAGS if (place := self._held.find(tag)) >= 0]
        cut = min(places) if places else len(self._held) - _length_of_half_a_tag(self._held)
        text, self._held = self._held[:cut], self._held[cut:]
        if places:
            self._read = self._read_opening
        if text:
            yield text


class _Brackets:
    """Finds where a bracket closes that a text begins with. It goes on where it stopped: texts grow piece by piece."""

    def __init__(self) -> None:
        self._place = 0
        self._open: list[str] = []
        self._quote = ""
        self._escaped = False

    def end(self, text: str) -> int | None:
        """Gives the place after the closing bracket; None when it has not come."""
        for place in range(self._place, len(text)):
            self._take(text[place])
            if not self._open and not self._quote:
                return place + 1
        self._place = len(text)
        return None

    def _take(self, letter: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._quote:
            self._escaped = letter == "\\"
            self._quote = "" if letter == self._quote else self._quote
        elif letter == '"' or (letter == "'" and self._open[0] == "]"):
            self._quote = letter
        elif letter in _CLOSING:
            self._open.append(_CLOSING[letter])
        elif self._open and letter == self._open[-1]:
            self._open.pop()


def _length_of_half_a_tag(text: str) -> int:
    return max((n for tag in _TAGS for n in range(1, len(tag)) if text.endswith(tag[:n])), default=0)


def _calls(text: str, names: frozenset[str]) -> list[Call]:
    """Reads a bracketed text; gives none when anything in it is not a call of a known tool."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        found = _pythonic(text)
    else:
        found = [_of_json(each) for each in (value if isinstance(value, list) else [value])]
    calls = [call for call in found if call is not None and call.name in names]
    return calls if len(calls) == len(found) else []


def _of_json(value: Any) -> Call | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("parameters", value.get("arguments", {}))
    if isinstance(arguments, str):
        return Call(value["name"], arguments)
    return Call(value["name"], json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None


def _pythonic(text: str) -> list[Call | None]:
    try:
        listed = ast.parse(text, mode="eval").body
        return [_of_python(each) for each in listed.elts] if isinstance(listed, ast.List) else []
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return []


def _of_python(node: ast.expr) -> Call | None:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        return None
    arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
    return None if None in arguments else Call(node.func.id, json.dumps(arguments, ensure_ascii=False))
