"""An exported model compiled by TensorRT ahead of time, so that a robot does not wait minutes for it at its start.

ONNX Runtime's TensorRT provider builds the engine and wraps it into an ONNX file of one node (an EPContext model),
which is opened like any other. Source: https://onnxruntime.ai/docs/execution-providers/EP-Context-Design.html.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from objloc_ros.backbones.engine_machine import Machine
from objloc_ros.backbones.onnx_file import (
    TENSORRT,
    ExportedInfo,
    choose_providers,
    make_options,
    read_exported_info,
)
from objloc_ros.errors import WeightsError

ENGINE_NODE = "EPContext"
"""The operator that stands for an engine."""


def build_engine(file: Path, machine: Machine) -> None:
    """Put an engine in the place of an exported model of fixed size; this takes a GPU, and minutes.

    Args:
        file: The model, which is replaced.
        machine: This one, with its first GPU.

    Raises:
        ParameterError: If this onnxruntime has no TensorRT.
        WeightsError: If TensorRT cannot compile all of it.
    """
    import onnxruntime

    info = read_exported_info(file)
    offered = onnxruntime.get_available_providers()
    choose_providers("cuda", offered, tensorrt=True)
    wrapped = file.with_name(f"{file.name}.engine")
    options = make_options(os.cpu_count() or 1)
    for key, value in {"enable": "1", "file_path": str(wrapped), "embed_mode": "1"}.items():
        options.add_session_config_entry(f"ep.context_{key}", value)
    providers = [(TENSORRT, {"device_id": 0, "trt_fp16_enable": info.precision == "float16"})]
    try:
        onnxruntime.InferenceSession(str(file), options, providers=providers)
        mark_engine(wrapped, info, machine)
        wrapped.replace(file)
    except WeightsError:
        raise
    except Exception as error:  # ONNX Runtime's have no common base of their own
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"TensorRT could not build an engine: {reason or type(error).__name__}") from error
    finally:
        wrapped.unlink(missing_ok=True)


def mark_engine(file: Path, info: ExportedInfo, machine: Machine) -> None:
    """Write into a file with an engine what it is, and for which machine.

    Args:
        file: As ONNX Runtime has written it.
        info: Of the model that the engine was built from.
        machine: That it was built for.

    Raises:
        WeightsError: If it does not hold one engine and nothing else.
    """
    import onnx

    model = onnx.load(file)
    operators = [node.op_type for node in model.graph.node]
    if operators != [ENGINE_NODE]:
        raise WeightsError(
            f"TensorRT did not take the whole model: {len(operators)} operators are left, "
            f"{operators.count(ENGINE_NODE)} of them engines, expected one engine alone"
        )
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, replace(info, engine=machine.to_dict()).to_metadata())
    onnx.save(model, file)
