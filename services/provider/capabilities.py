"""What a model can do, apart from how it is spoken to. The facts of each kind stand in `kinds/*/facts.py`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from mycel.completion.v1 import completion_service_pb2 as completion

from services.common.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do. The names are those of `models.*.capabilities` in mesh.yaml, where each is explained."""

    context: int = 0
    """The longest prompt and answer together, in tokens; 0 when not known."""
    chat: bool = True
    embeddings: bool = False
    max_output: int = 0
    """The longest answer, in tokens; 0 when not known."""
    tools: bool = True
    tool_choice: bool = True
    parallel_tool_calls: bool = True
    strict_tools: bool = True
    images: bool = True
    image_urls: bool = True
    image_detail: bool = True
    json_object: bool = True
    json_schema: bool = True
    logprobs: bool = True
    logit_bias: bool = True
    answers: int = 16
    stops: int = 16
    seed: bool = True
    sampling: bool = True
    max_temperature: float = 2.0
    penalties: bool = True
    reasoning_effort: bool = True
    prefix_continuation: bool = False
    names: bool = True

    def message(self) -> completion.Capabilities:
        """Gives the contract's form. The context length is a field of its own there."""
        return completion.Capabilities(
            chat=self.chat,
            embeddings=self.embeddings,
            max_output_tokens=self.max_output,
            tools=self.tools,
            tool_choice=self.tool_choice,
            parallel_tool_calls=self.parallel_tool_calls,
            strict_tools=self.strict_tools,
            images=self.images,
            image_urls=self.image_urls,
            image_detail=self.image_detail,
            json_object=self.json_object,
            json_schema=self.json_schema,
            logprobs=self.logprobs,
            logit_bias=self.logit_bias,
            max_answers=self.answers,
            max_stops=self.stops,
            seed=self.seed,
            sampling=self.sampling,
            max_temperature=self.max_temperature,
            penalties=self.penalties,
            reasoning_effort=self.reasoning_effort,
            prefix_continuation=self.prefix_continuation,
            names=self.names,
        )


@dataclass(frozen=True, slots=True)
class Model:
    """A hosted model, ready to be asked."""

    name: str
    """Its name in the mesh."""
    upstream: str
    """The provider's own name for it."""
    capabilities: Capabilities
    configured_context: int | None = None
    """The context length that mesh.yaml gives; None when it gives none."""


def configured(name: str, config: ModelConfig, facts: Capabilities) -> Model:
    """Puts together what is known of a model and what mesh.yaml says of it, which comes first."""
    told = {field.name: getattr(config.capabilities, field.name, None) for field in fields(Capabilities)}
    capabilities = replace(facts, **{field: value for field, value in told.items() if value is not None})
    if config.context is not None:
        capabilities = replace(capabilities, context=config.context)
    return Model(name, config.model or name, capabilities, config.context)
