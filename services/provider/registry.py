"""The configured providers: which are on, which are off and why, and who serves which model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Final, Self

from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.error.v1.error_reason_pb2 import ErrorReason
from pydantic import SecretStr

from services.common.config import Kind, MeshConfig, ModelConfig, ProviderConfig
from services.common.errors import MycelError
from services.common.settings import SettingsError, secret
from services.provider.adapter import Account, Adapter
from services.provider.capabilities import Model, configured

_KINDS: Final = "services.provider.kinds"


@dataclass(frozen=True, slots=True)
class Off:
    """A provider that cannot be asked, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Served:
    """A model and who serves it."""

    provider: str
    adapter: Adapter
    model: Model


class Registry:
    """The providers and models of a configuration."""

    def __init__(self, config: MeshConfig, providers: Mapping[str, Adapter | Off]) -> None:
        self._config = config
        self._models = config.hosted_models()
        self._providers = providers
        self._served = {
            name: Served(model.provider, adapter, configured(name, model, adapter.facts(model.model or name)))
            for name, model in self._models.items()
            if not isinstance(adapter := providers[model.provider], Off)
        }

    @classmethod
    def from_config(cls, config: MeshConfig) -> Self:
        """Sets the providers up that have a model; one whose key is missing is off."""
        needed = {model.provider for model in config.hosted_models().values()}
        return cls(config, {name: _set_up(name, config.providers[name]) for name in sorted(needed)})

    def find(self, name: str) -> Served:
        """Gives who serves a model.

        Raises:
            MycelError: MODEL_NOT_FOUND, or PROVIDER_OFF saying why.
        """
        model = self._models.get(name)
        if model is None:
            known = ", ".join(self._models) or "none"
            raise MycelError(
                ErrorReason.ERROR_REASON_MODEL_NOT_FOUND,
                f"model: no hosted model is called {name[:128]!r}; there are: {known}",
                field="model",
                metadata={"known": known},
            )
        provider = self._providers[model.provider]
        if isinstance(provider, Off):
            raise MycelError(
                ErrorReason.ERROR_REASON_PROVIDER_OFF,
                f"the provider {model.provider} is off: {provider.why}",
                metadata={"provider": model.provider, "why": provider.why},
            )
        return self._served[name]

    def embedder(self) -> str:
        """Gives the name of the model that embeds when none is named.

        Raises:
            MycelError: MODEL_NOT_FOUND: none is configured.
        """
        for name, served in self._served.items():
            can = served.model.capabilities
            if can.embeddings and not can.chat:
                return name
        raise MycelError(
            ErrorReason.ERROR_REASON_MODEL_NOT_FOUND, "model: no embedding model is configured", field="model"
        )

    def models(self) -> list[completion.ModelInfo]:
        """Describes every hosted model."""
        return [self._describe(name, model) for name, model in sorted(self._models.items())]

    def providers(self) -> list[completion.ProviderStatus]:
        """Tells how every provider is."""
        return [self._status(name, provider) for name, provider in sorted(self._providers.items())]

    async def aclose(self) -> None:
        """Closes every provider's connections."""
        for provider in self._providers.values():
            if not isinstance(provider, Off):
                await provider.aclose()

    def _describe(self, name: str, model: ModelConfig) -> completion.ModelInfo:
        provider = self._providers[model.provider]
        info = completion.ModelInfo(
            name=name,
            provider=model.provider,
            provider_kind=self._config.providers[model.provider].kind,
            available=not isinstance(provider, Off),
            context_length=model.context or 0,
            description=model.description,
            price=completion.Price(input=model.price.input, output=model.price.output),
        )
        if isinstance(provider, Off):
            info.unavailable_reason = provider.why
        else:
            known = self._served[name].model.capabilities
            info.context_length = known.context
            info.capabilities.CopyFrom(known.message())
        return info

    def _status(self, name: str, provider: Adapter | Off) -> completion.ProviderStatus:
        config = self._config.providers[name]
        status = completion.ProviderStatus(name=name, kind=config.kind, quota_group=config.quota_group or name)
        if isinstance(provider, Off):
            status.why_off = provider.why
        else:
            status.on = True
            provider.standing.fill(status)
        return status


def _set_up(name: str, config: ProviderConfig) -> Adapter | Off:
    try:
        key = secret(config.key_variable) if config.key_variable else None
        if key is None and not config.key_is_optional:
            return Off(f"{config.key_variable} is not set")
        headers = {header: _header(value) for header, value in config.headers.items()}
        return _connect(config.kind)(Account(name, config, key, headers))
    except SettingsError as error:
        return Off(str(error))


def _connect(kind: Kind) -> Callable[[Account], Adapter]:
    """Gives what sets a kind up. Only what is used is imported: the vendors' SDKs take a second each."""
    connect: Callable[[Account], Adapter] = import_module(f"{_KINDS}.{kind}").connect
    return connect


def _header(value: str) -> SecretStr:
    if not value.startswith("$"):
        return SecretStr(value)
    found = secret(value.removeprefix("$"))
    if found is None:
        raise SettingsError(f"{value.removeprefix('$')} is not set")
    return found
