"""A float32 ONNX graph of a backbone in float16: the pass alone, not what is decided by its features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FACETS_OF_THE_PASS = {"keys", "queries", "values"}
"""What is computed up to here is float16; CLS attention and heads, which come after it, stay float32."""

_DETOUR = "_cast_to_fp16"
"""How the conversion names float32 values that it is about to cast."""


def write_half(model: Any, file: Path) -> None:
    """Write a float32 ONNX model (`onnx.ModelProto`) with its pass in float16; inputs and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    needed, kept = set(FACETS_OF_THE_PASS), []
    for node in reversed(model.graph.node):  # they stand in the order in which they run
        if needed.isdisjoint(node.output):
            kept.append(node.name)
        else:
            needed.update(node.input)
    half = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True, node_block_list=kept)
    _drop_detours(half.graph)
    onnx.save(half, file)


def _drop_detours(graph: Any) -> None:
    """Let float32 values reach float32 operators as they are; the conversion sends them through float16."""
    import onnx

    casts = [node for node in graph.node if node.op_type == "Cast"]
    detours = {
        node.output[0]: node.input[0]
        for node in casts
        if node.attribute[0].i == onnx.TensorProto.FLOAT16 and node.input[0].endswith(_DETOUR)
    }
    for node in casts:
        if node.attribute[0].i == onnx.TensorProto.FLOAT:
            node.input[0] = detours.get(node.input[0], node.input[0])
