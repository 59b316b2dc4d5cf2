"""Writes all-MiniLM-L6-v2 as an ONNX graph, from its weights, without torch.

The graph takes `input_ids` and `attention_mask`, both int32 of shape (batch, tokens), and gives
`sentence_embedding`, float32 of shape (batch, 384), each row of length 1. Mean pooling over the
unmasked tokens and the L2 normalisation are part of the graph, as in sentence-transformers.

The transformer is written with ONNX Runtime's own fused operators (domain `com.microsoft`): they
are what its optimiser would make of the plain operators, so there is nothing to fuse at load time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

HIDDEN_SIZE = 384
LAYERS = 6
HEADS = 12
LAYER_NORM_EPSILON = 1e-12
NORM_FLOOR = 1e-12
"""Smallest length a vector is divided by, as torch.nn.functional.normalize has it."""

ONNX_OPSET = 17
IR_VERSION = 10
FUSED = "com.microsoft"

FloatArray = npt.NDArray[np.float32]


class _GraphWriter:
    """Collects nodes and weights; each method adds one step and returns its output's name."""

    def __init__(self, weights: Mapping[str, FloatArray]) -> None:
        self._weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name: str) -> str:
        """A tensor of the checkpoint, under its own name."""
        return self.constant(name, self._weights[name])

    def transposed(self, name: str) -> str:
        """A linear layer's weight as (inputs, outputs), the way MatMul wants it."""
        return self.constant(f"{name}.T", self._weights[name].T)

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Adds one operator; `domain=FUSED` selects ONNX Runtime's own set."""
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def query_key_value(self, layer: str) -> tuple[str, str]:
        """The three projections of an attention layer side by side: one product, not three."""
        parts = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self._weights[f"{part}.weight"].T for part in parts], axis=1)
        bias = np.concatenate([self._weights[f"{part}.bias"] for part in parts])
        return (
            self.constant(f"{layer}.qkv.weight", weight),
            self.constant(f"{layer}.qkv.bias", bias),
        )

    def add_and_norm(self, value: str, residual: str, dense: str, norm: str) -> str:
        """LayerNorm(value + the dense layer's bias + residual)."""
        inputs = [value, residual]
        inputs += [self.weight(f"{norm}.weight"), self.weight(f"{norm}.bias")]
        inputs += [self.weight(f"{dense}.bias")]
        return self.node(
            "SkipLayerNormalization",
            inputs,
            f"{norm}.out",
            domain=FUSED,
            epsilon=LAYER_NORM_EPSILON,
        )

    def embeddings(self) -> str:
        """Word, position and token-type embeddings, summed and normalised."""
        inputs = ["input_ids", ""]  # every token is of type 0
        inputs += [self.weight(f"embeddings.{part}_embeddings.weight") for part in ("word", "position")]
        # Without segment ids the operator ignores the type table: type 0 goes into the positions.
        inputs += ["", self.weight("embeddings.LayerNorm.weight")]
        inputs += [self.weight("embeddings.LayerNorm.bias")]
        self.nodes.append(
            helper.make_node(
                "EmbedLayerNormalization",
                inputs,
                ["embeddings.out", ""],
                "embeddings",
                domain=FUSED,
                epsilon=LAYER_NORM_EPSILON,
            )
        )
        return "embeddings.out"

    def encoder_layer(self, hidden: str, number: int) -> str:
        """One transformer layer: attention, then the feed-forward pair."""
        layer = f"encoder.layer.{number}"
        attended = self.node(
            "Attention",
            [hidden, *self.query_key_value(layer), "attention_mask"],
            f"{layer}.attention.out",
            domain=FUSED,
            num_heads=HEADS,
        )
        output = f"{layer}.attention.output"
        projected = self.node(
            "MatMul",
            [attended, self.transposed(f"{output}.dense.weight")],
            f"{output}.dense.out",
        )
        hidden = self.add_and_norm(projected, hidden, f"{output}.dense", f"{output}.LayerNorm")
        dense = f"{layer}.intermediate.dense"
        widened = self.node("MatMul", [hidden, self.transposed(f"{dense}.weight")], f"{dense}.out")
        active = self.node(
            "BiasGelu",
            [widened, self.weight(f"{dense}.bias")],
            f"{dense}.gelu",
            domain=FUSED,
        )
        output = f"{layer}.output"
        narrowed = self.node(
            "MatMul",
            [active, self.transposed(f"{output}.dense.weight")],
            f"{output}.dense.out",
        )
        return self.add_and_norm(narrowed, hidden, f"{output}.dense", f"{output}.LayerNorm")

    def pooled(self, hidden: str) -> str:
        """The mean of the unmasked tokens' vectors, scaled to length 1."""
        last = self.constant("axis.last", np.array([-1], dtype=np.int64))
        tokens = self.constant("axis.tokens", np.array([1], dtype=np.int64))
        mask = self.node("Cast", ["attention_mask"], "mask.float", to=TensorProto.FLOAT)
        column = self.node("Unsqueeze", [mask, last], "mask.column")
        masked = self.node("Mul", [hidden, column], "hidden.masked")
        total = self.node("ReduceSum", [masked, tokens], "hidden.sum", keepdims=0)
        # Dividing by the number of tokens would cancel out in the next step: left out.
        length = self.node("ReduceL2", [total], "hidden.length", axes=[-1], keepdims=1)
        floor = self.constant("length.floor", np.array(NORM_FLOOR, dtype=np.float32))
        divisor = self.node("Max", [length, floor], "length.divisor")
        return self.node("Div", [total, divisor], "sentence_embedding")


def build_graph(checkpoint: Mapping[str, FloatArray]) -> bytes:
    """Builds the graph.

    Args:
        checkpoint: the tensors of model.safetensors by name, float32.

    Returns:
        The serialised ONNX model (about 90 MB, weights inside).

    Raises:
        KeyError: a tensor is missing.
    """
    weights = dict(checkpoint)
    positions = weights["embeddings.position_embeddings.weight"]
    types = weights["embeddings.token_type_embeddings.weight"]
    weights["embeddings.position_embeddings.weight"] = positions + types[0]

    writer = _GraphWriter(weights)
    hidden = writer.embeddings()
    for number in range(LAYERS):
        hidden = writer.encoder_layer(hidden, number)
    output = writer.pooled(hidden)

    shape = ["batch", "tokens"]
    graph = helper.make_graph(
        writer.nodes,
        "all-MiniLM-L6-v2",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT32, shape),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT32, shape),
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", HIDDEN_SIZE])],
        initializer=writer.initializers,
    )
    model = helper.make_model(
        graph,
        producer_name="mycel",
        ir_version=IR_VERSION,
        opset_imports=[
            helper.make_opsetid("", ONNX_OPSET),
            helper.make_opsetid(FUSED, 1),
        ],
    )
    return model.SerializeToString(deterministic=True)
