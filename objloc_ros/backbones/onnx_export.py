"""Backbones to ONNX files, for any batch and image size, held against the eager pass before a file gets its name.

The graph is the eager module's own; only the resampling of the position embedding is written differently, see
`onnx_positions`.

    python -m objloc_ros.backbones.onnx_export      writes the graphs without weights that `onnx_graph` runs
"""

from __future__ import annotations

import functools
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy.typing as npt
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.backbones.engine_machine import read_machine
from objloc_ros.backbones.onnx_engine import build_engine
from objloc_ros.backbones.onnx_file import FACETS, INPUT, AnswerShape, ExportedInfo, Precision
from objloc_ros.backbones.onnx_graph import GRAPHS, list_weights
from objloc_ros.backbones.onnx_half import write_half
from objloc_ros.backbones.onnx_positions import open_pos_embed
from objloc_ros.backbones.onnx_runtime import load_exported
from objloc_ros.backbones.rope import rope_turns
from objloc_ros.backbones.specs import patch_grid
from objloc_ros.backbones.vit import ViT, build_vit
from objloc_ros.backbones.weights import fingerprint
from objloc_ros.errors import ParameterError, WeightsError
from objloc_ros.types import Features, Size

OPSET = 23
"""The first with attention as one operator, which needs no N x N matrix: 3 to 5 % faster on the CPU than opset 20."""

TOLERANCES: Mapping[Precision, float] = {"float32": 1e-4, "float16": 2e-2}
"""Largest difference from eager, relative to the largest value; rounding makes some 1e-6 and 1e-3 of it."""

ENGINE_OPSET = 20
"""For TensorRT, whose parser knows attention by its parts."""

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class Difference(NamedTuple):
    """How far an exported model is from the eager one on an input.

    Args:
        shape: Of the input, (B, 3, H, W).
        outputs: Per output, the largest difference relative to the largest value.
    """

    shape: tuple[int, ...]
    outputs: dict[str, float]


class ExportedHead(NamedTuple):
    """A head to export with its backbone.

    Args:
        network: Maps keys [B, C, h, w] to a named tuple of answers, some of which may be None; on the CPU, in eval
            mode.
        about: What it says about itself in the file's metadata.
    """

    network: nn.Module
    about: Mapping[str, str]

    def answer(self, features: Features) -> dict[str, Tensor]:
        """Return the answers by name, without those that are None."""
        answers = self.network(features.keys.mT.unflatten(2, features.grid))
        return {name: answer for name, answer in answers._asdict().items() if answer is not None}

    def shapes(self, channels: int) -> dict[str, AnswerShape]:
        """Return the shape of each answer, for keys of this width."""
        keys = torch.zeros(1, 15, channels)
        answers = self.answer(Features(keys, keys, keys, torch.zeros(1, 1, 15), (3, 5)))
        return {
            name: AnswerShape(answer.shape[1] if answer.ndim == 4 else 0, answer.shape[-2] // 3)
            for name, answer in answers.items()
        }


def _answer(heads: Sequence[ExportedHead], features: Features) -> dict[str, Tensor]:
    return {name: answer for head in heads for name, answer in head.answer(features).items()}


def export_backbone(
    model: ViT,
    file: Path,
    *,
    backbone: str,
    weights_sha256: str,
    heads: Sequence[ExportedHead] = (),
    size: Size | None = None,
    batch: int | None = None,
    precision: Precision = "float32",
    engine: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> list[Difference]:
    """Write a backbone as an ONNX file. It gets its name only when it agrees with the eager model.

    Args:
        model: The backbone, on the CPU and in eval mode.
        file: Where to write it; its folder must exist.
        backbone: Name of the architecture, a key of `specs.SPECS`.
        weights_sha256: Hash of the weights file that the model was loaded from.
        heads: What else shall be in the file and read the backbone's keys; one at most says something about itself.
        size: Height and width in pixels to fix it to, multiples of the patch; None leaves both open.
        batch: Number of images to fix it to; None leaves it open.
        precision: What the pass is computed in; inputs, outputs, CLS attention and heads are float32 either way.
        engine: Whether TensorRT shall compile it for this machine's first GPU; size and batch must be fixed.
        progress: Called with the name of each stage as it begins.

    Returns:
        The differences from eager, one for each input that was tried.

    Raises:
        InputError: If a side is not a positive multiple of the patch size.
        ParameterError: If the batch is below 1, or an engine is asked for any size or number of images.
        WeightsError: If a package is not installed, the exported model differs by more than `TOLERANCES` allow, there
            is no GPU or TensorRT to build an engine, or the file cannot be written.
    """
    _check_packages()
    if engine and None in (size, batch):
        raise ParameterError("an engine is built for one size and number of images: give both")
    machine = read_machine() if engine else None
    if not file.parent.is_dir():
        raise WeightsError(f"cannot write {file}: there is no folder {file.parent}")
    if batch is not None and batch < 1:
        raise ParameterError(f"batch must be at least 1, got {batch}")
    if size is not None:
        patch_grid(size, model.patch)
    info = ExportedInfo(
        backbone=backbone,
        patch=model.patch,
        mean=model.mean,
        std=model.std,
        weights_sha256=weights_sha256,
        fingerprint=fingerprint(model),
        answers={name: shape for head in heads for name, shape in head.shapes(model.embed_dim).items()},
        head=next((head.about for head in heads if head.about), {}),
        precision=precision,
    )
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        progress("translate")
        program = _translate(_Outputs(model, heads), list(info.answers), size, batch, ENGINE_OPSET if engine else OPSET)
        _describe(program.model, info)
        progress("write")
        if precision == "float16":
            write_half(program.model_proto, partial)
        else:
            program.save(partial, external_data=False)
        if machine is not None:
            progress("build")
            build_engine(partial, machine)
        progress("compare")
        device = "cpu" if machine is None else "cuda"
        differences = compare(model, partial, list(_inputs(model, size, batch)), heads, device)
        partial.replace(file)
    except OSError as error:
        raise WeightsError(f"cannot write {file}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return differences


def export_graph(name: str, file: Path) -> None:
    """Write the graph of an architecture, without its weights.

    Args:
        name: A key of `specs.SPECS`.
        file: Where to write it.

    Raises:
        WeightsError: If a package is not installed.
    """
    _check_packages()
    model = build_vit(name).requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(0)
    for value in model.vit.state_dict().values():  # all different, so that each is recognised
        value.copy_(torch.rand(value.shape, generator=generator))
    program = _translate(_Outputs(model), [], None, None, OPSET)
    info = ExportedInfo(
        backbone=name, patch=model.patch, mean=model.mean, std=model.std, weights_sha256="", fingerprint=""
    )
    _describe(program.model, info)
    proto = program.model_proto
    _take_weights_out(proto.graph, {name: model.vit.state_dict()[name].numpy() for name in list_weights(model)})
    file.write_bytes(proto.SerializeToString(deterministic=True))


def _take_weights_out(graph: Any, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Replace the weights in a graph by their names, to be given when a session starts.

    The exporter has renamed some and transposed others; they are known by their values.
    """
    import onnx

    names = {value.tobytes(): name for name, value in weights.items()}
    turned = {value.T.tobytes(): name for name, value in weights.items() if value.ndim == 2}
    kept = []
    for initializer in graph.initializer:
        values = onnx.numpy_helper.to_array(initializer).tobytes()
        if name := names.get(values):
            _rename(graph, initializer.name, name)
        elif name := turned.get(values):
            node = onnx.helper.make_node("Transpose", [name], [initializer.name], perm=[1, 0])
            graph.node.insert(0, node)
        else:
            kept.append(initializer)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for name, value in weights.items():
        absent = onnx.TensorProto(name=name, dims=value.shape, data_type=onnx.TensorProto.FLOAT)
        absent.data_location = onnx.TensorProto.EXTERNAL
        absent.external_data.add(key="location", value="weights")
        graph.initializer.append(absent)


def _rename(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for number, name in enumerate(node.input):
            if name == old:
                node.input[number] = new


def _check_packages() -> None:
    absent = [name for name in _NEEDED if find_spec(name) is None]
    if absent:
        raise WeightsError(f"exporting needs {', '.join(absent)}: pip install {' '.join(absent)}")


@torch.inference_mode()
def compare(
    model: ViT, file: Path, inputs: list[Tensor], heads: Sequence[ExportedHead] = (), device: str = "cpu"
) -> list[Difference]:
    """Run both models on the same inputs, the exported one on a device.

    Raises:
        WeightsError: If they differ by more than `TOLERANCES` allow.
    """
    exported = load_exported(file, device)
    tolerance = TOLERANCES[exported.model.info.precision]
    differences = []
    for images in inputs:
        wanted, found = model(images), exported(images)
        errors = {name: _relative_error(getattr(found, name).cpu(), getattr(wanted, name)) for name in FACETS}
        answers = _answer(heads, wanted)
        errors |= {name: _relative_error(found.answers[name].cpu(), answer) for name, answer in answers.items()}
        differences.append(Difference(tuple(images.shape), errors))
        for name, difference in errors.items():
            if not difference <= tolerance:  # so that NaN is refused too
                raise WeightsError(
                    f"the exported {name} differ by {difference:.1e} of their largest value on an input of "
                    f"{list(images.shape)}, allowed is {tolerance:g}: nothing was written"
                )
    return differences


class _Outputs(nn.Module):
    """The pass as the exporter wants it: a tuple of tensors, sizes open.

    Args:
        model: The backbone.
        heads: What reads its keys.
    """

    def __init__(self, model: ViT, heads: Sequence[ExportedHead] = ()) -> None:
        super().__init__()
        self.heads = heads
        self.vit = _OpenViT(cast(Any, model.vit), model.spec)
        if model.spec.pos_embed == "rope":
            self.vit.positions = functools.partial(rope_turns, leads=model.spec.leads)
        else:
            self.vit.positions = functools.partial(open_pos_embed, rule=model.spec.pos_embed)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.vit(images)
        return (*(getattr(features, name) for name in FACETS), *_answer(self.heads, features).values())


class _OpenViT(ViT):
    """A ViT that projects facets one by one: apart from each other they need not be copied out of one product."""

    def _project(self, last: Block, x: Tensor) -> tuple[Tensor, ...]:
        x, qkv = last.norm1(x), cast(nn.Linear, last.attn.qkv)
        parts = zip(qkv.weight.chunk(3), qkv.bias.chunk(3), strict=True)
        return tuple(F.linear(x, weight, bias) for weight, bias in parts)


def _translate(
    outputs: _Outputs, answers: Sequence[str], size: Size | None, batch: int | None, opset: int
) -> torch.onnx.ONNXProgram:
    model = outputs.vit
    dim = torch.export.Dim
    # An example of open sizes has none that could be mistaken for a constant: not 1, not the learned grid's.
    images = torch.zeros(batch or 2, 3, *(size or (3 * model.patch, 5 * model.patch)))
    sizes = {} if size else {2: model.patch * dim("rows", min=1), 3: model.patch * dim("columns", min=1)}
    batches = {} if batch else {0: dim("batch", min=1)}
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the exporter's own insides, as what it logs
        program = torch.onnx.export(
            outputs.eval(),
            (images,),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=[*FACETS, *answers],
            opset_version=opset,
            dynamic_shapes={"images": {**batches, **sizes}},
        )
    if program is None:
        raise WeightsError("torch.onnx.export returned nothing")
    return program


def _describe(graph_model: Any, info: ExportedInfo) -> None:
    """Put our metadata in place of the exporter's, which holds stack traces with this machine's paths."""
    graph = graph_model.graph
    for node in graph:
        for described in (node, *node.outputs):
            described.metadata_props.clear()
    for described in (graph, *graph.inputs, *graph.initializers.values()):
        described.metadata_props.clear()
    graph_model.metadata_props.clear()
    graph_model.metadata_props.update(info.to_metadata())


def _inputs(model: ViT, size: Size | None, batch: int | None) -> Iterator[Tensor]:
    """Noise of the fixed size, or of the learned, of a tiny and of two camera-like ones."""
    base, patch = model.spec.base, model.patch
    sizes = [size] * 2 if size else [(base, base), (patch, 3 * patch), (12 * patch, 16 * patch), (9 * patch, 7 * patch)]
    generator = torch.Generator().manual_seed(0)
    for number, (height, width) in enumerate(sizes):
        yield torch.randn(batch or 1 + number % 2, 3, height, width, generator=generator)


def _relative_error(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


if __name__ == "__main__":
    for backbone, path in GRAPHS.items():
        export_graph(backbone, path)
