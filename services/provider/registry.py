"""The configured providers: which are on, which are off and why, and who serves which model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.config import MeshConfig, ModelConfig, ProviderConfig
from services.common.errors import MycelError
from services.common.settings import SettingsError, secret
from services.provider.adapter import Adapter
from services.provider.kinds.openai import OpenAIAdapter


@dataclass(frozen=True, slots=True)
class Off:
    """A provider that cannot be asked, and why."""

    why: str


class Registry:
    """The providers and models of a configuration."""

    def __init__(self, config: MeshConfig, providers: Mapping[str, Adapter | Off]) -> None:
        self._config = config
        self._models = config.hosted_models()
        self._providers = providers

    @classmethod
    def from_config(cls, config: MeshConfig) -> Self:
        """Sets the providers up that have a model; one whose key is missing is off."""
        needed = {model.provider for model in config.hosted_models().values()}
        return cls(config, {name: _set_up(name, config.providers[name]) for name in sorted(needed)})

    def find(self, name: str) -> tuple[Adapter, ModelConfig]:
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
        return provider, model

    def models(self) -> list[completion.ModelInfo]:
        """Describes every hosted model."""
        return [self._describe(name, model) for name, model in sorted(self._models.items())]

    async def aclose(self) -> None:
        """Closes every provider's connections."""
        for provider in self._providers.values():
            if not isinstance(provider, Off):
                await provider.aclose()

    def _describe(self, name: str, model: ModelConfig) -> completion.ModelInfo:
        provider = self._providers[model.provider]
        off = provider.why if isinstance(provider, Off) else ""
        return completion.ModelInfo(
            name=name,
            provider=model.provider,
            provider_kind=self._config.providers[model.provider].kind,
            available=not off,
            unavailable_reason=off,
            context_length=model.context or 0,
            description=model.description,
        )


def _set_up(name: str, config: ProviderConfig) -> Adapter | Off:
    variable = config.key_variable or "OPENAI_API_KEY"
    try:
        key = secret(variable)
    except SettingsError as error:
        return Off(str(error))
    if key is None:
        return Off(f"{variable} is not set")
    if config.kind != "openai":
        return Off(f"the kind {config.kind} is not there yet")
    return OpenAIAdapter(name, config, key)
