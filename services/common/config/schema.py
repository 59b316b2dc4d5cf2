"""What mesh.yaml may hold. Every field that is not listed here is refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from services.common.config.parts import Duration, Name, Part
from services.common.config.providers import CapabilitiesConfig, ProviderConfig
from services.common.config.reliability import ReliabilityConfig

AUTO: Final = "auto"
"""The route that every configuration has."""

TIERS: Final = ("low", "medium", "high")

BUILTIN_HANDBOOK: Final = "builtin:handbook"
"""The value of a model's `gguf` that names the handbook Llama that comes with the repository."""


class Price(Part):
    """A model's price in US dollars per million tokens."""

    input: Annotated[float, Field(ge=0)] = 0.0
    output: Annotated[float, Field(ge=0)] = 0.0


class ModelConfig(Part):
    """A model that may be asked for by name."""

    provider: Name
    """The provider that serves it, by its name in this file."""
    model: Name | None = None
    """The provider's name for it; absent means the same name as here."""
    price: Price = Price()
    context: Annotated[int, Field(ge=1)] | None = None
    """The longest prompt and answer together, in tokens; absent means what is known of the model."""
    capabilities: CapabilitiesConfig = CapabilitiesConfig()
    """What a hosted model can do, where it differs from what is known of it."""
    description: str = ""
    """What it is, for people; shown by `/v1/models`."""
    gguf: str | None = None
    """For a `triton` provider: the weights, as a path (relative to this file) or `builtin:handbook`."""
    slots: Annotated[int, Field(ge=1, le=256)] = 8
    """For a `triton` provider: how many answers are generated at the same time."""
    queue: Annotated[int, Field(ge=0, le=10_000)] = 64
    """For a `triton` provider: how many calls may wait for one of the slots before further ones are refused."""


class RouteConfig(Part):
    """The models that a route may use, in order of preference, for each tier of difficulty."""

    low: tuple[Name, ...] = ()
    medium: tuple[Name, ...] = ()
    high: tuple[Name, ...] = ()

    def models(self) -> tuple[str, ...]:
        """Gives every model of the route, each once, the cheapest tier's first."""
        return tuple(dict.fromkeys((*self.low, *self.medium, *self.high)))


class StoreConfig(Part):
    """Where cache entries are kept."""

    uri: str | None = None
    """A Milvus address, or a file for Milvus Lite; absent means `cache.db` in the state folder."""


class CacheConfig(Part):
    """How answers are given again."""

    mode: Literal["off", "exact", "semantic"] = "semantic"
    """What a call gets that does not say; a call may ask for less, not for more."""
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """The cosine similarity from which a semantic hit is served; absent means the service's own, careful one."""
    ttl: Duration = timedelta(hours=24)
    """How long an answer may be given again."""
    store: StoreConfig = StoreConfig()


class TenantConfig(Part):
    """Somebody who may call."""

    keys: Annotated[tuple[Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")], ...], Field(min_length=1)]
    """The tenant's API keys, each as `sha256:` and the hexadecimal hash of the key: never the key itself."""


class MeshConfig(Part):
    """The whole of mesh.yaml."""

    providers: Mapping[Name, ProviderConfig]
    models: Annotated[Mapping[Name, ModelConfig], Field(min_length=1)]
    routes: Mapping[Name, RouteConfig]
    cache: CacheConfig = CacheConfig()
    reliability: ReliabilityConfig = ReliabilityConfig()
    tenants: Mapping[Name, TenantConfig] = {}

    @model_validator(mode="after")
    def _references_exist(self) -> MeshConfig:
        for name, model in self.models.items():
            self._check_model(name, model)
        for name, route in self.routes.items():
            if name in self.models:
                raise MisplacedError(("routes", name), "a model has this name already")
            if not route.models():
                raise MisplacedError(("routes", name), "a route needs at least one model")
            for tier in TIERS:
                for index, model_name in enumerate(getattr(route, tier)):
                    if model_name not in self.models:
                        known = ", ".join(sorted(self.models))
                        raise MisplacedError(
                            ("routes", name, tier, index),
                            f"no model is called {model_name!r}; models are: {known}",
                        )
        if AUTO not in self.routes:
            raise MisplacedError(("routes",), "the route `auto` is missing")
        return self

    def _check_model(self, name: str, model: ModelConfig) -> None:
        provider = self.providers.get(model.provider)
        if provider is None:
            known = ", ".join(sorted(self.providers)) or "none"
            raise MisplacedError(
                ("models", name, "provider"),
                f"no provider is called {model.provider!r}; providers are: {known}",
            )
        if model.gguf is not None and provider.kind != "triton":
            raise MisplacedError(("models", name, "gguf"), "only a model of a `triton` provider has weights of its own")

    def quota_groups(self) -> dict[str, str]:
        """Gives each provider's quota group: its own name, unless it shares one."""
        return {name: provider.quota_group or name for name, provider in self.providers.items()}

    def local_models(self) -> dict[str, ModelConfig]:
        """Gives the models that Triton serves."""
        return {name: model for name, model in self.models.items() if self.providers[model.provider].kind == "triton"}

    def hosted_models(self) -> dict[str, ModelConfig]:
        """Gives the models that providers serve."""
        local = self.local_models()
        return {name: model for name, model in self.models.items() if name not in local}


class MisplacedError(ValueError):
    """A value that contradicts another part of the file; carries where it stands."""

    def __init__(self, location: tuple[str | int, ...], reason: str) -> None:
        super().__init__(reason)
        self.location = location


def gguf_path(model: ModelConfig, base: Path) -> Path | None:
    """Gives the file of a model's weights; None when it names none.

    Args:
        model: the model.
        base: the folder that relative paths start from: the configuration file's.
    """
    if model.gguf is None:
        return None
    if model.gguf == BUILTIN_HANDBOOK:
        return Path(__file__).resolve().parents[3] / "models" / "handbook" / "handbook-llama.gguf"
    return (base / Path(model.gguf).expanduser()).resolve()
