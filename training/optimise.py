"""AdamW with a warm-up and a cosine decay, and a running average of the weights, as one jitted step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from training.batches import Batch
from training.network import Params, Shape, logits


@dataclass(frozen=True, slots=True)
class Schedule:
    """How training proceeds. Rates are per step."""

    steps: int
    peak_rate: float = 2.5e-3
    warmup_steps: int = 60
    final_share: float = 0.02
    weight_decay: float = 0.1
    dropout: float = 0.1
    average_decay: float = 0.99
    clip_norm: float = 1.0

    def rate(self, step: Array) -> Array:
        """Learning rate at a step."""
        warm = step / self.warmup_steps
        progress = jnp.clip((step - self.warmup_steps) / max(1, self.steps - self.warmup_steps), 0.0, 1.0)
        cosine = self.final_share + (1 - self.final_share) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        return self.peak_rate * jnp.minimum(warm, cosine)


class TrainState(NamedTuple):
    """Weights, their running average, and Adam's two moments."""

    params: Params
    average: Params
    first: Params
    second: Params
    step: Array


def new_state(params: Params) -> TrainState:
    # Separate buffers each, since a step donates them all.
    average, first, second = (jax.tree.map(make, params) for make in (jnp.copy, jnp.zeros_like, jnp.zeros_like))
    return TrainState(params, average, first, second, jnp.zeros((), jnp.int32))


Step = Callable[[TrainState, Batch, Array], tuple[TrainState, Array]]


def make_step(shape: Shape, schedule: Schedule) -> Step:
    """A jitted training step: (state, batch, key) to (state, loss). The state given in is used up."""

    def loss_of(params: Params, batch: Batch, key: Array) -> Array:
        time = batch.tokens.shape[1]
        causal = jnp.tril(jnp.ones((time, time), bool))
        mask = causal[None] & (batch.segments[:, :, None] == batch.segments[:, None, :])
        scores = logits(params, shape, jnp.asarray(batch.tokens), mask, dropout=schedule.dropout, key=key)
        chosen = jnp.take_along_axis(scores, batch.targets[..., None], axis=-1)[..., 0]
        losses = jax.nn.logsumexp(scores, axis=-1) - chosen
        return jnp.sum(losses * batch.weights) / jnp.sum(batch.weights)

    def step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, Array]:
        loss, gradients = jax.value_and_grad(loss_of)(state.params, batch, key)
        return _adamw(state, gradients, schedule), loss

    jitted: Step = jax.jit(step, donate_argnums=0)
    return jitted


def _adamw(state: TrainState, gradients: Params, schedule: Schedule) -> TrainState:
    count = state.step + 1
    norm = jnp.sqrt(sum(jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(gradients)))
    clip = jnp.minimum(1.0, schedule.clip_norm / (norm + 1e-9))
    rate = schedule.rate(count)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g * clip, state.first, gradients)
    second = jax.tree.map(lambda v, g: 0.98 * v + 0.02 * (g * clip) ** 2, state.second, gradients)

    def update(weight: Array, mean: Array, square: Array) -> Array:
        change = (mean / (1 - 0.9**count)) / (jnp.sqrt(square / (1 - 0.98**count)) + 1e-8)
        decay = schedule.weight_decay if weight.ndim > 1 else 0.0
        return weight - rate * (change + decay * weight)

    params = jax.tree.map(update, state.params, first, second)
    decay = jnp.minimum(schedule.average_decay, (1.0 + count) / (10.0 + count))
    average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.average, params)
    return TrainState(params, average, first, second, count)


def as_numpy(params: Params) -> dict[str, Any]:
    """The weights as numpy arrays, on the host."""
    copied: dict[str, Any] = jax.device_get(params)
    return copied
