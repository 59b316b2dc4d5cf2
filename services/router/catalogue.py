"""What the router knows of its models: the configuration, and which of them can be asked now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mycel.chat.v1 import types_pb2 as chat
from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.config import MeshConfig, Price
from services.common.errors import MycelError
from services.router.tiers import Tier, judge

INFERENCE: Final = "inference"
PROVIDER: Final = "provider"

_MILLION: Final = 1e6


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may answer a call."""

    model: str
    """Its name in the mesh."""
    provider: str
    """The provider that serves it, by its name in the mesh."""
    backend: str
    """The service that speaks to the provider: `inference` or `provider`."""
    price: Price
    context: int = 0
    """The longest prompt and answer together, in tokens; 0 when not known."""

    def cost(self, usage: chat.Usage) -> float:
        """Gives the cost in US dollars of a call."""
        price = self.price
        return (usage.prompt_tokens * price.input + usage.completion_tokens * price.output) / _MILLION


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is asked, in which order, and why."""

    tier: Tier
    candidates: tuple[Candidate, ...]
    skipped: Mapping[str, str]
    """Models that were passed over, and why."""
    explanation: str


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A name that may be asked for, as `/v1/models` shows it."""

    name: str
    owner: str
    """The provider's name, or `mycel` for a route."""
    description: str
    available: bool
    unavailable_reason: str = ""


class Catalogue:
    """The models and routes of a configuration, with their state as the backends last told it."""

    def __init__(self, config: MeshConfig) -> None:
        self._config = config
        self._unavailable: dict[str, dict[str, str]] = {}
        local = config.local_models()
        self._candidates = {
            name: Candidate(
                name, model.provider, INFERENCE if name in local else PROVIDER, model.price, model.context or 0
            )
            for name, model in config.models.items()
        }

    def update(self, backend: str, models: Iterable[completion.ModelInfo]) -> None:
        """Takes in what a backend tells of its models."""
        self._unavailable[backend] = {
            model.name: model.unavailable_reason or "unavailable" for model in models if not model.available
        }

    def plan(self, model: str, value: chat.ChatInput) -> Plan:
        """Decides who is asked.

        Args:
            model: what the caller asked for: a route or a model.
            value: the checked input.

        Raises:
            MycelError: MODEL_NOT_FOUND, naming what there is.
        """
        route = self._config.routes.get(model)
        if route is None:
            candidate = self._candidates.get(model)
            if candidate is None:
                raise self._not_found(model)
            return Plan(Tier.PINNED, (candidate,), {}, f"pinned: the caller asked for {model}")
        verdict = judge(value)
        wanted: tuple[str, ...] = getattr(route, verdict.tier)
        # A tier without models of its own, or whose models all fail, falls back on the rest of the route.
        order = dict.fromkeys((*wanted, *reversed(route.models())))
        skipped = {name: why for name in order if (why := self._why_unavailable(name))}
        open_ = tuple(self._candidates[name] for name in order if name not in skipped)
        # What the backends tell may be old: when nothing seems left, all are tried.
        candidates = open_ or tuple(self._candidates[name] for name in order)
        return Plan(verdict.tier, candidates, skipped if open_ else {}, verdict.explanation)

    def entries(self) -> list[ModelEntry]:
        """Lists routes, then models, as configured."""
        routes = [
            ModelEntry(name, "mycel", f"Chooses among {', '.join(route.models())}.", available=True)
            for name, route in self._config.routes.items()
        ]
        models = [
            ModelEntry(name, model.provider, model.description, not why, why)
            for name, model in self._config.models.items()
            for why in (self._why_unavailable(name),)
        ]
        return routes + models

    def entry(self, name: str) -> ModelEntry:
        """Gives one route or model.

        Raises:
            MycelError: MODEL_NOT_FOUND, naming what there is.
        """
        found = next((entry for entry in self.entries() if entry.name == name), None)
        if found is None:
            raise self._not_found(name)
        return found

    def _why_unavailable(self, name: str) -> str:
        return self._unavailable.get(self._candidates[name].backend, {}).get(name, "")

    def _not_found(self, model: str) -> MycelError:
        known = ", ".join((*self._config.routes, *self._config.models))
        shown = model if len(model) <= 128 else model[:128] + "…"  # noqa: PLR2004
        return MycelError(
            ErrorReason.ERROR_REASON_MODEL_NOT_FOUND,
            f"model: no model or route is called {shown!r}; there are: {known}"
            if model
            else f"model: must not be empty; there are: {known}",
            field="model",
            metadata={"model": shown, "known": known},
        )
