"""What Anthropic's models can do, by family and version. A name that is not known is taken for the newest."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from services.provider.capabilities import Capabilities

_NEWEST: Final = (99, 0)
_NAME: Final = re.compile(r"claude-(?P<family>[a-z]+)-(?P<major>\d)(?:-(?P<minor>\d)(?!\d))?")
_OLD_NAME: Final = re.compile(r"claude-(?P<major>\d)(?:-(?P<minor>\d)(?!\d))?-(?P<family>[a-z]+)")

_ALL: Final = Capabilities(
    image_detail=False,
    logprobs=False,
    logit_bias=False,
    answers=1,
    seed=False,
    penalties=False,
    max_temperature=1.0,
    names=False,
)


@dataclass(frozen=True, slots=True)
class _Version:
    family: str
    number: tuple[int, int]

    def older(self, than: tuple[int, int], *, haiku: tuple[int, int]) -> bool:
        """Tells whether it came before a version; Haiku's numbers go their own way."""
        return self.number < (haiku if self.family == "haiku" else than)


def facts(model: str) -> Capabilities:
    """Gives what is known of a model by the provider's name of it."""
    version = _version(model)
    forced = version.older((5, 5) if version.family == "opus" else (5, 1), haiku=_NEWEST) or version.family == "sonnet"
    return replace(
        _ALL,
        context=200_000 if version.older((4, 6), haiku=(5, 0)) else 1_000_000,
        max_output=_max_output(version),
        # Newer models refuse what steers their sampling, words put into their mouth, and forced tools.
        sampling=version.older((4, 7), haiku=(4, 6)),
        prefix_continuation=version.older((4, 6), haiku=(4, 6)),
        tool_choice=forced,
        json_object=forced,
        strict_tools=has_structured_output(model),
        reasoning_effort=not version.older((4, 5) if version.family == "opus" else (4, 6), haiku=(5, 0)),
    )


def has_structured_output(model: str) -> bool:
    """Tells whether a model can be held to a schema by itself; others are given a tool with that schema."""
    return not _version(model).older((4, 1) if _version(model).family == "opus" else (4, 5), haiku=(4, 5))


def takes_one_sampler(model: str) -> bool:
    """Tells whether a model takes temperature or top_p, but not both."""
    return not _version(model).older((4, 1) if _version(model).family == "opus" else (4, 5), haiku=(4, 5))


def _max_output(version: _Version) -> int:
    if version.number < (3, 5):
        return 4096
    if version.number < (3, 7):
        return 8192
    if version.family == "opus" and version.number < (4, 5):
        return 32_000
    return 64_000 if version.older((4, 6), haiku=(5, 0)) else 128_000


def _version(model: str) -> _Version:
    found = _NAME.search(model) or _OLD_NAME.search(model)
    if found is None:
        return _Version("", _NEWEST)
    return _Version(found["family"], (int(found["major"]), int(found["minor"] or 0)))
