"""The configured local models: who they are, how their prompts are made, and whether they can be asked now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mycel.completion.v1 import completion_service_pb2 as completion
from mycel.error.v1.error_reason_pb2 import ErrorReason

from services.common.config import MeshConfig, ModelConfig
from services.common.config.schema import gguf_path
from services.common.errors import MycelError, Reason
from services.common.triton_server.configured import DEFAULT_CONTEXT_TOKENS
from services.inference.admission import Admission
from services.inference.chat_template import ChatTemplate
from services.inference.model_file import ModelFileError, read_prompt_facts


@dataclass(slots=True)
class LocalModel:
    """A model that Triton serves."""

    name: str
    """Its name in the mesh."""
    triton_name: str
    config: ModelConfig
    provider_kind: str
    admission: Admission
    idle_seconds: float
    """The longest wait for the next piece of an answer."""
    template: ChatTemplate | None = None
    """None until its file was read."""
    inputs: frozenset[str] = frozenset()
    """The names of its inputs in Triton; none until it was ready once."""
    unavailable_reason: str = "it is not known yet whether Triton has it"
    """Why it cannot be asked; empty when it can."""
    unavailable_as: Reason = ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE
    """What a caller is told who asks it nevertheless."""

    @property
    def context_tokens(self) -> int:
        return self.config.context or DEFAULT_CONTEXT_TOKENS

    def info(self) -> completion.ModelInfo:
        """Describes the model."""
        return completion.ModelInfo(
            name=self.name,
            provider=self.config.provider,
            provider_kind=self.provider_kind,
            available=not self.unavailable_reason,
            unavailable_reason=self.unavailable_reason,
            context_length=self.context_tokens,
            description=self.config.description,
            capabilities=self._capabilities(),
            price=completion.Price(input=self.config.price.input, output=self.config.price.output),
        )

    def _capabilities(self) -> completion.Capabilities:
        takes_tools = self.template is not None and self.template.takes_tools
        return completion.Capabilities(
            chat=True,
            tools=takes_tools,
            tool_choice=takes_tools,
            parallel_tool_calls=takes_tools,
            json_object=True,
            json_schema=True,
            logprobs=True,
            logit_bias=True,
            max_answers=1,
            max_stops=16,
            seed=True,
            sampling=True,
            max_temperature=2,
            penalties=True,
            prefix_continuation=True,
            names=True,
        )

    def unavailable(self, why: str, reason: Reason = ErrorReason.ERROR_REASON_BACKEND_UNAVAILABLE) -> None:
        """Notes that it cannot be asked."""
        self.unavailable_reason, self.unavailable_as = why, reason

    def ready_template(self) -> ChatTemplate:
        """Gives the chat template of a model that can be asked.

        Raises:
            MycelError: BACKEND_UNAVAILABLE or BACKEND_MODEL_MISSING when it cannot.
        """
        metadata = {"model": self.name, "provider": self.config.provider}
        if self.unavailable_reason or self.template is None:
            why = f"{self.name} cannot be asked: {self.unavailable_reason}"
            raise MycelError(self.unavailable_as, why, metadata=metadata)
        return self.template


class LocalModels:
    """The local models of a configuration."""

    def __init__(self, config: MeshConfig) -> None:
        self._models = {name: _model(name, model, config) for name, model in sorted(config.local_models().items())}

    def all(self) -> list[LocalModel]:
        """Gives every model, by name."""
        return list(self._models.values())

    def find(self, name: str) -> LocalModel:
        """Gives the model of that name.

        Raises:
            MycelError: MODEL_NOT_FOUND, naming the known ones.
        """
        model = self._models.get(name)
        if model is None:
            known = ", ".join(self._models) or "none"
            raise MycelError(
                ErrorReason.ERROR_REASON_MODEL_NOT_FOUND,
                f"model: no local model is called {name[:128]!r}; there are: {known}",
                field="model",
                metadata={"known": known},
            )
        return model


def load_template(model: LocalModel, config_folder: Path) -> ChatTemplate:
    """Reads a model's chat template from its file. Takes up to seconds: not for the event loop.

    Raises:
        ModelFileError: there is no file, or none with a chat template that can be used.
    """
    path = gguf_path(model.config, config_folder)
    if path is None:
        raise ModelFileError(f"models.{model.name}.gguf is needed for its chat template")
    return ChatTemplate(read_prompt_facts(path))


def _model(name: str, model: ModelConfig, config: MeshConfig) -> LocalModel:
    provider = config.providers[model.provider]
    return LocalModel(
        name=name,
        triton_name=model.model or name,
        config=model,
        provider_kind=provider.kind,
        admission=Admission(name, model.slots, model.queue),
        idle_seconds=provider.timeout.total_seconds(),
    )
