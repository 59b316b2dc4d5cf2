"""The Llama architecture in JAX: RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied embedding.

Rotary pairs are neighbouring dimensions (0,1), (2,3), …, which is what llama.cpp's "llama" architecture expects, so
the weights are exported as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

Params = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network. All widths are multiples of 32, as q8_0 needs."""

    vocabulary: int = 1792
    width: int = 256
    layers: int = 4
    heads: int = 8
    kv_heads: int = 4
    feed_forward: int = 704
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def init_params(shape: Shape, key: Array) -> Params:
    """Random weights; every matrix is stored [in, out]."""
    keys = iter(jax.random.split(key, 1 + 7 * shape.layers))
    kv_width = shape.kv_heads * shape.head_width
    residual_scale = (2 * shape.layers) ** -0.5

    def matrix(rows: int, columns: int, scale: float = 1.0) -> Array:
        drawn: Array = jax.random.normal(next(keys), (rows, columns))
        return drawn * (scale / math.sqrt(rows))

    embedding = jax.random.normal(next(keys), (shape.vocabulary, shape.width)) * 0.05
    blocks = [
        {
            "attn_norm": jnp.ones(shape.width),
            "attn_q": matrix(shape.width, shape.width),
            "attn_k": matrix(shape.width, kv_width),
            "attn_v": matrix(shape.width, kv_width),
            "attn_output": matrix(shape.width, shape.width, residual_scale),
            "ffn_norm": jnp.ones(shape.width),
            "ffn_gate": matrix(shape.width, shape.feed_forward),
            "ffn_up": matrix(shape.width, shape.feed_forward),
            "ffn_down": matrix(shape.feed_forward, shape.width, residual_scale),
        }
        for _ in range(shape.layers)
    ]
    return {"token_embd": embedding, "output_norm": jnp.ones(shape.width), "blocks": blocks}


def count_params(params: Params) -> int:
    return sum(int(leaf.size) for leaf in jax.tree.leaves(params))


def logits(
    params: Params, shape: Shape, tokens: Array, mask: Array, *, dropout: float = 0.0, key: Array | None = None
) -> Array:
    """Scores of the next token, [batch, time, vocabulary].

    `mask` is [batch, time, time], true where a position may attend to another.
    """
    keys = iter(jax.random.split(key, 1 + 2 * shape.layers)) if key is not None else None

    def drop(values: Array) -> Array:
        if keys is None or dropout == 0.0:
            return values
        keep = jax.random.bernoulli(next(keys), 1 - dropout, values.shape)
        return jnp.where(keep, values / (1 - dropout), 0.0)

    cos, sin = _rotary_tables(shape, tokens.shape[1])
    hidden = drop(params["token_embd"][tokens])
    for block in params["blocks"]:
        normed = _rms_norm(hidden, block["attn_norm"], shape.norm_epsilon)
        hidden = hidden + drop(_attention(block, shape, normed, mask, cos, sin))
        normed = _rms_norm(hidden, block["ffn_norm"], shape.norm_epsilon)
        gated = jax.nn.silu(normed @ block["ffn_gate"]) * (normed @ block["ffn_up"])
        hidden = hidden + drop(gated @ block["ffn_down"])
    scores: Array = _rms_norm(hidden, params["output_norm"], shape.norm_epsilon) @ params["token_embd"].T
    return scores


def _rms_norm(values: Array, weight: Array, epsilon: float) -> Array:
    return values * jax.lax.rsqrt(jnp.mean(values * values, axis=-1, keepdims=True) + epsilon) * weight


def _rotary_tables(shape: Shape, time: int) -> tuple[Array, Array]:
    frequencies = shape.rope_base ** (-jnp.arange(0, shape.head_width, 2) / shape.head_width)
    angles = jnp.arange(time)[:, None] * frequencies[None, :]
    return jnp.cos(angles)[None, :, None, :], jnp.sin(angles)[None, :, None, :]


def _rotate(values: Array, cos: Array, sin: Array) -> Array:
    even, odd = values[..., 0::2], values[..., 1::2]
    turned = jnp.stack((even * cos - odd * sin, even * sin + odd * cos), axis=-1)
    return turned.reshape(values.shape)


def _attention(block: Params, shape: Shape, hidden: Array, mask: Array, cos: Array, sin: Array) -> Array:
    batch, time, _ = hidden.shape
    query = _rotate((hidden @ block["attn_q"]).reshape(batch, time, shape.heads, shape.head_width), cos, sin)
    key = _rotate((hidden @ block["attn_k"]).reshape(batch, time, shape.kv_heads, shape.head_width), cos, sin)
    value = (hidden @ block["attn_v"]).reshape(batch, time, shape.kv_heads, shape.head_width)
    groups = shape.heads // shape.kv_heads
    query = query.reshape(batch, time, shape.kv_heads, groups, shape.head_width)
    scores = jnp.einsum("btkgd,bskd->bkgts", query, key) * shape.head_width**-0.5
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, -1e9), axis=-1)
    mixed = jnp.einsum("bkgts,bskd->btkgd", weights, value)
    projected: Array = mixed.reshape(batch, time, shape.width) @ block["attn_output"]
    return projected
