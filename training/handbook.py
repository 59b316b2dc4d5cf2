"""Reads the handbook: questions with their answers, and the unrelated prompts with the one answer to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HANDBOOK_DIR = Path(__file__).resolve().parent.parent / "models" / "handbook"


class HandbookError(ValueError):
    """A handbook file is not of the expected shape; the message names the file and the place."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One answer and the ways to ask for it.

    `question` and `phrasings` are what training may see; `held_out` is only for the evaluation.
    """

    id: str
    topic: str
    question: str
    answer: str
    phrasings: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def taught(self) -> tuple[str, ...]:
        """Every phrasing that training may see, the main one first."""
        return (self.question, *self.phrasings)


@dataclass(frozen=True, slots=True)
class Unrelated:
    """What the model says to prompts outside the handbook, and the material to teach and to test that.

    A template holds `{slot}` names, each filled from `slots`; `{number}` and `{nonsense}` are made up.
    """

    answer: str
    prompts: tuple[str, ...]
    templates: tuple[str, ...]
    slots: dict[str, tuple[str, ...]]
    system_messages: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Handbook:
    """The whole handbook; pairs are in the order of the files' names and of their place in a file."""

    pairs: tuple[Pair, ...]
    unrelated: Unrelated


def load_handbook(directory: Path = HANDBOOK_DIR) -> Handbook:
    """Read `questions/*.yaml` and `unrelated.yaml` of a handbook folder.

    Raises HandbookError if a file is missing or of the wrong shape, or an id stands twice.
    """
    files = sorted((directory / "questions").glob("*.yaml"))
    if not files:
        raise HandbookError(f"no handbook files in {directory / 'questions'}")
    pairs = tuple(pair for file in files for pair in _pairs(file))
    seen: set[str] = set()
    for pair in pairs:
        if pair.id in seen:
            raise HandbookError(f"the id {pair.id!r} stands twice")
        seen.add(pair.id)
    return Handbook(pairs=pairs, unrelated=_unrelated(directory / "unrelated.yaml"))


def _pairs(file: Path) -> list[Pair]:
    content = _mapping(file)
    topic = _text(content.get("topic"), f"{file.name}: topic")
    entries = content.get("pairs")
    if not isinstance(entries, list):
        raise HandbookError(f"{file.name}: pairs must be a list")
    return [_pair(entry, topic, f"{file.name}: pair {number}") for number, entry in enumerate(entries, 1)]


def _pair(entry: object, topic: str, place: str) -> Pair:
    if not isinstance(entry, dict):
        raise HandbookError(f"{place} must be a mapping")
    return Pair(
        id=_text(entry.get("id"), f"{place}: id"),
        topic=topic,
        question=_text(entry.get("question"), f"{place}: question"),
        answer=_text(entry.get("answer"), f"{place}: answer"),
        phrasings=_texts(entry.get("phrasings"), f"{place}: phrasings"),
        held_out=_texts(entry.get("held_out"), f"{place}: held_out"),
    )


def _unrelated(file: Path) -> Unrelated:
    content = _mapping(file)
    slots = content.get("slots")
    if not isinstance(slots, dict):
        raise HandbookError(f"{file.name}: slots must be a mapping")
    lists = {
        name: _texts(content.get(name), f"{file.name}: {name}")
        for name in ("prompts", "templates", "system_messages", "held_out")
    }
    return Unrelated(
        answer=_text(content.get("answer"), f"{file.name}: answer"),
        prompts=lists["prompts"],
        templates=lists["templates"],
        slots={str(name): _texts(values, f"{file.name}: slot {name}") for name, values in slots.items()},
        system_messages=lists["system_messages"],
        held_out=lists["held_out"],
    )


def _mapping(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HandbookError(f"{file} is missing") from None
    except yaml.YAMLError as error:
        raise HandbookError(f"{file.name} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise HandbookError(f"{file.name} must hold a mapping")
    return content


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise HandbookError(f"{place} must be text")
    return value.strip()


def _texts(value: object, place: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise HandbookError(f"{place} must be a list of texts")
    return tuple(_text(item, place) for item in value)
