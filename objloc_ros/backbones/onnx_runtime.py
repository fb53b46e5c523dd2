"""An exported backbone behind the call of an eager one: the same features, computed by ONNX Runtime.

ONNX Runtime is imported only when a file is loaded. It works on the memory of torch's tensors, on the CPU
and on CUDA alike, so nothing is copied on the way in or out. A few strings in the ONNX file's metadata say what the
model is; they are checked when it is loaded.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from objloc_ros.backbones.registry import cache_dir
from objloc_ros.backbones.store import check_file
from objloc_ros.backbones.vit import SPECS, ViT, patch_grid
from objloc_ros.errors import InputError, ParameterError, WeightsError
from objloc_ros.types import Features, Grid

SUFFIX = ".onnx"
"""By this ending a weights file is known as an exported model."""

FORMAT = 1
"""Raised when the inputs, the outputs or the metadata change their meaning."""

INPUT = "images"

FACETS = ("keys", "queries", "values", "cls_attention")
"""The outputs: the fields of `types.Features` in their order."""

Triple = tuple[float, float, float]

_PREFIX = "objloc."


class AnswerShape(NamedTuple):
    """The shape of a head's output.

    Args:
        channels: Size of the second dimension; 0 where there is none.
        scale: Its rows and columns relative to the patch grid's.
    """

    channels: int
    scale: int

    def expand(self, batch: int, grid: Grid) -> tuple[int, ...]:
        """Return the shape for a number of images and a grid."""
        sides = (self.scale * grid[0], self.scale * grid[1])
        return (batch, self.channels, *sides) if self.channels else (batch, *sides)


@dataclass(frozen=True, kw_only=True)
class ExportedInfo:
    """Description of an exported backbone.

    Args:
        backbone: Its architecture, a key of `vit.SPECS`.
        patch: Patch side in pixels.
        mean: Channel means in [0, 1] units that its input is normalised with.
        std: Channel standard deviations in [0, 1] units.
        weights_sha256: Hash of the weights file that it was exported from.
        fingerprint: Of its parameters, see `weights.fingerprint`; "" in files of earlier versions.
        answers: Outputs of a head in the same file, by name.
        head: What the head says about itself, see `methods.detector_file`; empty where there is none.
    """

    backbone: str
    patch: int
    mean: Triple
    std: Triple
    weights_sha256: str
    fingerprint: str = ""
    answers: Mapping[str, AnswerShape] = field(default_factory=dict)
    head: Mapping[str, str] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """Return the strings for the file's metadata."""
        values = {
            "format": FORMAT,
            "backbone": self.backbone,
            "patch": self.patch,
            "mean": list(self.mean),
            "std": list(self.std),
            "weights_sha256": self.weights_sha256,
            "fingerprint": self.fingerprint,
            "answers": dict(self.answers),
            "head": dict(self.head),
        }
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
        return {_PREFIX + key: text for key, text in texts.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> ExportedInfo:
        """Read the strings back.

        Args:
            metadata: All of the file's metadata.
            path: The file, for messages.

        Raises:
            WeightsError: If a string is missing or does not hold what it should.
        """
        if (written := _value(metadata, "format", path)) != FORMAT:
            raise WeightsError(f"{path} has format {written!r}, this version reads {FORMAT}: export it anew")
        name = _text(metadata, "backbone", path)
        if name not in SPECS:
            raise WeightsError(f"{path} holds the unknown backbone {name!r}; known: {', '.join(SPECS)}")
        patch = _value(metadata, "patch", path)
        if patch != SPECS[name].patch:
            raise WeightsError(f"{path} has patch size {patch!r}, but {name} has {SPECS[name].patch}")
        mean, std = (_triple(_value(metadata, key, path), key, path) for key in ("mean", "std"))
        if min(std) <= 0:
            raise WeightsError(f"{path} has std {list(std)}, expected positive numbers")
        digest = _text(metadata, "weights_sha256", path)
        return cls(
            backbone=name,
            patch=SPECS[name].patch,
            mean=mean,
            std=std,
            weights_sha256=digest,
            fingerprint=metadata.get(_PREFIX + "fingerprint", ""),
            answers=_read_answers(metadata, path),
            head=_read_head(metadata, path),
        )


def _read_answers(metadata: Mapping[str, str], path: Path) -> dict[str, AnswerShape]:
    value = _value(metadata, "answers", path) if _PREFIX + "answers" in metadata else {}
    try:
        answers = {name: AnswerShape(*numbers) for name, numbers in cast(dict[str, list[int]], value).items()}
    except (AttributeError, TypeError) as error:
        raise WeightsError(f"{path} has answers {value!r}, expected channels and scale of each") from error
    if not all(type(number) is int and number >= 0 for answer in answers.values() for number in answer):
        raise WeightsError(f"{path} has answers {value!r}, expected whole numbers")
    return answers


def _read_head(metadata: Mapping[str, str], path: Path) -> dict[str, str]:
    value = _value(metadata, "head", path) if _PREFIX + "head" in metadata else {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise WeightsError(f"{path} has head {value!r}, expected texts")
    return value


def _text(metadata: Mapping[str, str], key: str, path: Path) -> str:
    if _PREFIX + key not in metadata:
        raise WeightsError(f"{path} lacks the metadata {_PREFIX + key!r}: it was not written by `objloc export`")
    return metadata[_PREFIX + key]


def _value(metadata: Mapping[str, str], key: str, path: Path) -> object:
    text = _text(metadata, key, path)
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise WeightsError(f"{path} has the metadata {_PREFIX + key!r} = {text!r}, expected JSON") from error
    return value


def _triple(value: object, key: str, path: Path) -> Triple:
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(type(number) in (int, float) and math.isfinite(number) for number in value)
    ):
        raise WeightsError(f"{path} has {key} {value!r}, expected three numbers")
    first, second, third = map(float, value)
    return first, second, third


CPU, CUDA, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))

_ERRORS_ONLY = 3

SPIN_US = 100
"""How long threads of a session wait in a busy loop for work, microseconds."""


class ExportedViT(ViT):
    """A ViT whose pass is in an ONNX file: `(B, 3, H, W) -> Features`, float32. It has no parameters of its own.

    Args:
        session: ONNX Runtime's session on the file.
        info: The file's description of itself.
        path: The file, for messages.
        device: Where images are and features shall be.
    """

    def __init__(self, session: Any, info: ExportedInfo, path: Path, device: torch.device) -> None:
        nn.Module.__init__(self)  # not ViT's: there is no torch transformer to hold
        self.spec = replace(SPECS[info.backbone], bfloat16=False)
        self.patch = self.spec.patch
        self.embed_dim = self.spec.embed_dim
        self.n_heads = self.spec.n_heads
        self.mean, self.std = info.mean, info.std
        self.info = info
        self.path = path
        self.device = device
        self._session = session
        batch, _, *sides = (size if isinstance(size, int) else None for size in session.get_inputs()[0].shape)
        self.fixed_batch: int | None = batch
        self.fixed_sides: list[int | None] = sides

    def forward(self, images: Tensor) -> Features:
        """Return the facets of the last block, and the answers of a head in the same file.

        Args:
            images: float32 [B, 3, H, W], normalised with `mean` and `std`; H and W multiples of `patch`.

        Raises:
            InputError: If a side is not a positive multiple of the patch size, or the model was exported for another
                size or number of images.
        """
        rows, columns = grid = patch_grid(images, self.patch)
        self._check_fixed(images)
        images = images.to(self.device, torch.float32).contiguous()
        count, patches = len(images), rows * columns
        shapes = facet_shapes(self, count, patches)
        shapes |= {name: answer.expand(count, grid) for name, answer in self.info.answers.items()}
        outputs = run_session(self._session, images, shapes)
        answers = {name: outputs.pop(name) for name in self.info.answers}
        return Features(**outputs, grid=grid, answers=answers)

    def _check_fixed(self, images: Tensor) -> None:
        wanted = [fixed or given for fixed, given in zip(self.fixed_sides, images.shape[-2:], strict=True)]
        if wanted != list(images.shape[-2:]):
            height, width = images.shape[-2:]
            raise InputError(
                f"{self.path} was exported for inputs of height {wanted[0]} and width {wanted[1]}, got height {height} "
                f"and width {width}; export it without --size for any size"
            )
        if len(images) != (self.fixed_batch or len(images)):
            raise InputError(
                f"{self.path} was exported for {self.fixed_batch} image(s) at a time, got {len(images)}; export it "
                "without --batch for any number"
            )


def facet_shapes(vit: ViT, count: int, patches: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a pass's outputs, by name, for so many images of so many patches."""
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(FACETS, (count, patches, vit.embed_dim))
    return shapes | {"cls_attention": (count, vit.n_heads, patches)}


def run_session(session: Any, images: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Run a session on the memory of tensors.

    Args:
        session: ONNX Runtime's session, on the device of the images.
        images: float32 [B, 3, H, W], contiguous.
        shapes: Of its outputs, by name.

    Returns:
        float32 outputs by name, on the device of the images.
    """
    outputs = {name: torch.empty(shape, device=images.device) for name, shape in shapes.items()}
    binding = session.io_binding()
    binding.bind_input(INPUT, **_memory(images))
    for name, output in outputs.items():
        binding.bind_output(name, **_memory(output))
    if images.device.type == "cuda":  # ONNX Runtime works on a stream of its own
        torch.cuda.current_stream(images.device).synchronize()
    session.run_with_iobinding(binding)
    return outputs


def make_options(threads: int) -> Any:
    """Return the options of a session that computes on so many threads, this package's choice of ONNX Runtime's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads wait for the next operator of a pass in a busy loop, as waking them takes as long as a small operator;
    # for the next frame they sleep, as they would take the processor from other nodes.
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_US))
    options.log_severity_level = _ERRORS_ONLY
    return options


def load_exported(path: str | Path, device: str | torch.device = "cpu", *, backbone: str | None = None) -> ExportedViT:
    """Load a model that `objloc export` wrote. It computes on as many threads as torch has at this moment.

    Args:
        path: The ONNX file.
        device: Where to run it: "cpu", or "cuda" with an onnxruntime that offers CUDA; there TensorRT comes first where
            its Python package is installed.
        backbone: Architecture that it must have, a key of `vit.SPECS`; None takes any.

    Raises:
        ParameterError: If onnxruntime cannot run on the device.
        WeightsError: If onnxruntime is not installed, or the file is missing, has the wrong hash, is not an exported
            model, or is one of another backbone.
    """
    target = torch.device(device)
    file = check_file(Path(path).expanduser()).path
    session = _open(file, target)
    info = ExportedInfo.from_metadata(session.get_modelmeta().custom_metadata_map, file)
    if backbone is not None and info.backbone != backbone:
        raise WeightsError(f"{file} is an exported {info.backbone}, expected {backbone}")
    _check_interface(session, info, file)
    return ExportedViT(session, info, file, target)


def read_exported_info(path: Path) -> ExportedInfo:
    """Read what an exported model says about itself.

    Raises:
        WeightsError: As `load_exported`.
    """
    session = _open(check_file(path).path, torch.device("cpu"), run=False)
    return ExportedInfo.from_metadata(session.get_modelmeta().custom_metadata_map, path)


def choose_providers(
    device: torch.device, offered: Sequence[str], *, tensorrt: bool
) -> list[tuple[str, dict[str, Any]]]:
    """Return which of ONNX Runtime's execution providers run on a device, the preferred first, each with its options.

    Args:
        device: Where to run.
        offered: What this build of onnxruntime offers.
        tensorrt: Whether TensorRT is installed; builds for GPUs offer it even where it is not.

    Raises:
        ParameterError: If none of them runs there.
    """
    if device.type == "cpu":
        return [(CPU, {})]
    if device.type != "cuda" or CUDA not in offered:
        raise ParameterError(
            f"this onnxruntime cannot run on {str(device)!r}, it offers {', '.join(offered)}: choose device cpu, or "
            "replace it by onnxruntime-gpu"
        )
    index = {"device_id": device.index or 0}
    # Float32 as it is on the CPU and in eager mode, not TF32 with its ten bits.
    chosen: list[tuple[str, dict[str, Any]]] = [(CUDA, {**index, "use_tf32": 0}), (CPU, {})]
    if tensorrt and TENSORRT in offered:
        # Building an engine takes minutes; kept, the next start takes seconds.
        cache = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache_dir() / "tensorrt")}
        chosen.insert(0, (TENSORRT, {**index, **cache}))
    return chosen


def _open(file: Path, device: torch.device, *, run: bool = True) -> Any:
    """Open a session; one that shall not run is opened sooner."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"{file} is an exported model and needs ONNX Runtime: pip install onnxruntime (onnxruntime-gpu for CUDA)"
        ) from error
    offered = onnxruntime.get_available_providers()
    providers = choose_providers(device, offered, tensorrt=find_spec("tensorrt") is not None)
    if providers[0][0] == TENSORRT:
        importlib.import_module("tensorrt")  # loads its libraries, which lie where no loader looks
    options = make_options(torch.get_num_threads())
    if not run:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # its exceptions have no common base of their own
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{file} cannot be read as an ONNX model: {reason or type(error).__name__}") from error
    if device.type != "cpu" and CUDA not in session.get_providers():
        raise ParameterError(f"onnxruntime could not start CUDA on {str(device)!r}: its CUDA libraries do not load")
    return session


def _check_interface(session: Any, info: ExportedInfo, file: Path) -> None:
    """Hold names, types and the sizes that never change against what the backbone has."""
    spec = SPECS[info.backbone]
    width = dict.fromkeys(FACETS, (2, spec.embed_dim)) | {"cls_attention": (1, spec.n_heads), INPUT: (1, 3)}
    found = {value.name: value for value in (*session.get_inputs(), *session.get_outputs())}
    outputs = [*FACETS, *info.answers]
    if list(found) != [INPUT, *outputs]:
        raise WeightsError(f"{file} maps {', '.join(found)}, expected {INPUT} to {', '.join(outputs)}")
    for name, (axis, size) in width.items():
        value, dimensions = found[name], 4 if name == INPUT else 3
        if value.type != "tensor(float)" or len(value.shape) != dimensions or value.shape[axis] != size:
            raise WeightsError(
                f"{file} has {name} of {value.type} {value.shape}, expected float32 with {dimensions} dimensions, "
                f"{size} along number {axis}"
            )


def _memory(tensor: Tensor) -> dict[str, Any]:
    """Return where a contiguous float32 tensor lies, in ONNX Runtime's words."""
    return {
        "device_type": tensor.device.type,
        "device_id": tensor.device.index or 0,
        "element_type": np.float32,
        "shape": tuple(tensor.shape),
        "buffer_ptr": tensor.data_ptr(),
    }
