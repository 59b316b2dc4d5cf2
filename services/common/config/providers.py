"""The parts of mesh.yaml about providers: how each is reached, and what a model of it can do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, model_validator

from services.common.config.parts import Duration, Name, Part

Kind: TypeAlias = Literal["openai", "azure_openai", "anthropic", "ollama", "triton"]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Address = Annotated[str, Field(pattern=r"^https?://\S+$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]
HeaderValue = Annotated[str, Field(pattern=r"^[^\r\n]*$")]

_KEYS: Final[Mapping[Kind, str]] = {
    "openai": "OPENAI_API_KEY",
    "azure_openai": "AZURE_OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "ollama": "OLLAMA_API_KEY",
}

_STANDARD: Final[Mapping[Kind, frozenset[str]]] = {
    "openai": frozenset({"OPENAI_BASE_URL"}),
    "azure_openai": frozenset({"AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION"}),
    "anthropic": frozenset({"ANTHROPIC_BASE_URL"}),
    "ollama": frozenset({"OLLAMA_HOST"}),
}


class ProviderConfig(Part):
    """An account at a provider, or a server of one's own."""

    kind: Kind
    """How it is spoken to: `openai` for OpenAI and every compatible server, `azure_openai`, `anthropic`, `ollama`, or
    `triton` for local inference."""
    base_url: Address | None = None
    """Where it is reached; absent means the kind's standard variable, such as OPENAI_BASE_URL, else its own address."""
    endpoint: Address | None = None
    """For `azure_openai`: the resource's address; absent means AZURE_OPENAI_ENDPOINT."""
    api_version: str | None = None
    """For `azure_openai`: the API's version; absent means OPENAI_API_VERSION, else a version known to work."""
    api_key_env: Variable | None = None
    """The environment variable that holds the key; with `_FILE` appended, the one that names a file holding it. Absent
    means the kind's standard one, such as OPENAI_API_KEY; null means that no key is sent."""
    timeout: Duration = timedelta(seconds=60)
    """The longest wait for the next piece of an answer."""
    connect_timeout: Duration = timedelta(seconds=5)
    """The longest wait for a connection."""
    headers: Mapping[HeaderName, HeaderValue] = {}
    """Headers sent along. A value `$NAME` is read from that variable (or the file that `NAME_FILE` names)."""
    quota_group: Name | None = None
    """Providers of the same group share a quota: when one is out of it, all are. Absent means a group of its own."""

    @model_validator(mode="after")
    def _fields_fit_the_kind(self) -> ProviderConfig:
        azure = self.kind == "azure_openai"
        for field in ("endpoint", "api_version"):
            if getattr(self, field) is not None and not azure:
                raise ValueError(f"{field} belongs to the kind azure_openai, this is {self.kind}")
        if azure and self.base_url is not None:
            raise ValueError("an azure_openai provider has an endpoint, not a base_url")
        return self

    @property
    def key_variable(self) -> str | None:
        """The variable that holds the key; None when no key is sent."""
        if "api_key_env" in self.model_fields_set:
            return self.api_key_env
        return _KEYS.get(self.kind)

    @property
    def key_is_optional(self) -> bool:
        """Whether the provider is on without its key."""
        return self.key_variable is None or (self.kind == "ollama" and "api_key_env" not in self.model_fields_set)

    def variables(self) -> frozenset[str]:
        """Gives the environment variables that the provider is set up from."""
        headers = {value.removeprefix("$") for value in self.headers.values() if value.startswith("$")}
        key = {self.key_variable} if self.key_variable else set()
        return _STANDARD.get(self.kind, frozenset()) | headers | key


class CapabilitiesConfig(Part):
    """What a model can do, where it differs from what is known of it."""

    chat: bool | None = None
    """Answers conversations."""
    embeddings: bool | None = None
    """Turns texts into vectors."""
    max_output: Annotated[int, Field(ge=1)] | None = None
    """The longest answer, in tokens."""
    tools: bool | None = None
    """Calls tools."""
    tool_choice: bool | None = None
    """Can be made to call a tool."""
    parallel_tool_calls: bool | None = None
    """Takes `parallel_tool_calls`."""
    strict_tools: bool | None = None
    """Can be held to a tool's schema."""
    images: bool | None = None
    """Sees pictures that are sent as data."""
    image_urls: bool | None = None
    """Fetches pictures from an address."""
    image_detail: bool | None = None
    """Takes a picture's `detail`."""
    json_object: bool | None = None
    """Can be held to JSON."""
    json_schema: bool | None = None
    """Can be held to a JSON Schema."""
    logprobs: bool | None = None
    """Tells log probabilities."""
    logit_bias: bool | None = None
    """Takes a bias on tokens."""
    answers: Annotated[int, Field(ge=1, le=16)] | None = None
    """The most answers to one call (`n`)."""
    stops: Annotated[int, Field(ge=0, le=16)] | None = None
    """The most stop texts."""
    seed: bool | None = None
    """Takes a seed."""
    sampling: bool | None = None
    """Takes `temperature` and `top_p`."""
    max_temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """The highest temperature."""
    penalties: bool | None = None
    """Takes presence and frequency penalties."""
    reasoning_effort: bool | None = None
    """Takes `reasoning_effort`."""
    prefix_continuation: bool | None = None
    """Goes on with an assistant's message that comes last."""
    names: bool | None = None
    """Takes the names of speakers."""
