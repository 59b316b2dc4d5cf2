"""What a GGUF says of itself, and whether all of it is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import gguf

_MAGIC: Final = b"GGUF"


class NotGgufError(Exception):
    """The file is not a GGUF, or not a whole one."""


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """What a person wants to know of a model's file."""

    name: str
    """The model's own name; empty when the file does not say."""
    architecture: str
    context_tokens: int
    """The longest context that it was made for; 0 when the file does not say."""


def read_gguf(path: Path) -> GgufFacts:
    """Reads a file; takes up to seconds for a large vocabulary.

    Raises:
        NotGgufError: it is not a GGUF, or a part is missing.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise NotGgufError("the file is not a GGUF")
    try:
        fields = gguf.GGUFReader(path).fields  # maps every tensor, so that missing ones are found
        architecture = str(fields["general.architecture"].contents())
        name = fields.get("general.name")
        context = fields.get(f"{architecture}.context_length")
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise NotGgufError("the file is not a whole GGUF") from error
    return GgufFacts(
        name="" if name is None else str(name.contents()),
        architecture=architecture,
        context_tokens=0 if context is None else int(context.contents()),
    )
