"""The file of an exported model: what it says about itself, and a session on it; torch is not needed for either.

A few strings in the ONNX file's metadata say what the model is. They are checked, with its names and shapes, when it is
opened. ONNX Runtime is imported only then.
"""

from __future__ import annotations

import importlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

from objloc_ros.backbones.engine_machine import Machine, read_machine
from objloc_ros.backbones.onnx_proto import read_metadata
from objloc_ros.backbones.registry import cache_dir
from objloc_ros.backbones.specs import SPECS, patch_grid
from objloc_ros.backbones.store import check_file
from objloc_ros.errors import InputError, ParameterError, WeightsError
from objloc_ros.types import Grid

SUFFIX = ".onnx"
"""By this ending a weights file is known as an exported model."""

FORMAT = 1
"""Raised when the inputs, the outputs or the metadata change their meaning."""

INPUT = "images"

FOUND = "found"
"""The output of FOUND's head where it is in the file: logits [B, h, w]."""

FACETS = ("keys", "queries", "values", "cls_attention")
"""The outputs: the fields of `types.Features` in their order."""

Triple = tuple[float, float, float]

Precision = Literal["float32", "float16"]

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
        backbone: Its architecture, a key of `specs.SPECS`.
        patch: Patch side in pixels.
        mean: Channel means in [0, 1] units that its input is normalised with.
        std: Channel standard deviations in [0, 1] units.
        weights_sha256: Hash of the weights file that it was exported from.
        fingerprint: Of its parameters, see `weights.fingerprint`; "" in files of earlier versions.
        answers: Outputs of a head in the same file, by name.
        head: What the head says about itself, see `methods.detector_file`; empty where there is none.
        precision: What the pass is computed in.
        engine: The machine that it was compiled for, see `engine_machine`; empty where it was not.
    """

    backbone: str
    patch: int
    mean: Triple
    std: Triple
    weights_sha256: str
    fingerprint: str = ""
    answers: Mapping[str, AnswerShape] = field(default_factory=dict)
    head: Mapping[str, str] = field(default_factory=dict)
    precision: Precision = "float32"
    engine: Mapping[str, str] = field(default_factory=dict)

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
            "precision": self.precision,
            "engine": dict(self.engine),
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
        precision = metadata.get(_PREFIX + "precision", "float32")
        if precision not in get_args(Precision):
            raise WeightsError(f"{path} has precision {precision!r}, expected one of {', '.join(get_args(Precision))}")
        return cls(
            backbone=name,
            patch=SPECS[name].patch,
            mean=mean,
            std=std,
            weights_sha256=digest,
            fingerprint=metadata.get(_PREFIX + "fingerprint", ""),
            answers=_read_answers(metadata, path),
            head=_read_texts(metadata, "head", path),
            precision=cast(Precision, precision),
            engine=_read_texts(metadata, "engine", path),
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


def _read_texts(metadata: Mapping[str, str], key: str, path: Path) -> dict[str, str]:
    value = _value(metadata, key, path) if _PREFIX + key in metadata else {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise WeightsError(f"{path} has {key} {value!r}, expected texts")
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


@dataclass(frozen=True)
class ExportedModel:
    """An exported model that is ready to run.

    Args:
        session: ONNX Runtime's session on the file.
        info: The file's description of itself.
        path: The file, for messages.
    """

    session: Any
    info: ExportedInfo
    path: Path

    @property
    def fixed(self) -> tuple[int | None, int | None, int | None]:
        """What it was exported for: number of images, height and width in pixels; None where any goes."""
        batch, _, height, width = (
            size if isinstance(size, int) else None for size in self.session.get_inputs()[0].shape
        )
        return batch, height, width

    def choose_precision(self, asked: str) -> Precision:
        """Return what the pass computes in, which was chosen at the export.

        Raises:
            ParameterError: If neither that nor "auto" is asked for.
        """
        own = self.info.precision
        if asked not in ("auto", own):
            raise ParameterError(f"precision {asked} is not that of {self.path}, which was exported in {own}")
        return own

    def check_shape(self, shape: Sequence[int]) -> Grid:
        """Return patch rows and columns of images [B, 3, H, W].

        Raises:
            InputError: If a side is not a positive multiple of the patch size, or the model was exported for another
                size or number of images.
        """
        count, _, *sides = shape
        grid = patch_grid(sides, self.info.patch)
        batch, *fixed = self.fixed
        wanted = [size or given for size, given in zip(fixed, sides, strict=True)]
        if wanted != sides:
            raise InputError(
                f"{self.path} was exported for inputs of height {wanted[0]} and width {wanted[1]}, got height "
                f"{sides[0]} and width {sides[1]}; export it without --size for any size"
            )
        if count != (batch or count):
            raise InputError(
                f"{self.path} was exported for {batch} image(s) at a time, got {count}; export it without --batch for "
                "any number"
            )
        return grid


def open_exported(
    path: str | Path, device: str = "cpu", *, backbone: str | None = None, threads: int | None = None
) -> ExportedModel:
    """Open a model that `objloc export` wrote.

    Args:
        path: The ONNX file.
        device: Where to run it: "cpu", or "cuda" with an onnxruntime that offers CUDA; there TensorRT comes first where
            its Python package is installed.
        backbone: Architecture that it must have, a key of `specs.SPECS`; None takes any.
        threads: How many it computes on; None for `OMP_NUM_THREADS`, or else as many as there are processors.

    Raises:
        ParameterError: If onnxruntime cannot run on the device.
        WeightsError: If onnxruntime is not installed, or the file is missing, has the wrong hash, is not an exported
            model, is one of another backbone, or an engine for another machine.
    """
    file = check_file(Path(path).expanduser()).path
    info = _read_info(file)
    if backbone is not None and info.backbone != backbone:
        raise WeightsError(f"{file} is an exported {info.backbone}, expected {backbone}")
    if info.engine:
        _check_engine(info, file, device)
    session = _open(file, device, threads or _count_threads())
    _check_interface(session, info, file)
    return ExportedModel(session, info, file)


def read_exported_info(path: Path) -> ExportedInfo:
    """Read what an exported model says about itself; ONNX Runtime is not needed.

    Raises:
        WeightsError: If the file is missing, has the wrong hash or is not an exported model.
    """
    return _read_info(check_file(path).path)


def has_found_head(weights: Path | None) -> bool:
    """Return whether these weights of a backbone are an exported model with FOUND's head in it.

    Raises:
        WeightsError: If it is an exported model that cannot be read.
    """
    return weights is not None and weights.suffix == SUFFIX and FOUND in read_exported_info(weights).answers


def _read_info(file: Path) -> ExportedInfo:
    return ExportedInfo.from_metadata(read_metadata(file), file)


def _check_engine(info: ExportedInfo, file: Path, device: str) -> None:
    kind, _, index = device.partition(":")
    if kind != "cuda":
        raise WeightsError(
            f"{file} is a TensorRT engine, which runs on a GPU alone, got device {device!r}: choose device cuda, or a "
            "file that was exported without --build-engine"
        )
    built_for = Machine.from_dict(info.engine, file)
    built_for.check(read_machine(int(index) if index.isdigit() else 0), file)


def _count_threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else os.cpu_count() or 1


def choose_providers(device: str, offered: Sequence[str], *, tensorrt: bool) -> list[tuple[str, dict[str, Any]]]:
    """Return which of ONNX Runtime's execution providers run on a device, the preferred first, each with its options.

    Args:
        device: Where to run: "cpu", "cuda" or "cuda:N".
        offered: What this build of onnxruntime offers.
        tensorrt: Whether TensorRT is installed; builds for GPUs offer it even where it is not.

    Raises:
        ParameterError: If none of them runs there.
    """
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return [(CPU, {})]
    if kind != "cuda" or CUDA not in offered:
        raise ParameterError(
            f"this onnxruntime cannot run on {device!r}, it offers {', '.join(offered)}: choose device cpu, or "
            "replace it by onnxruntime-gpu"
        )
    which = {"device_id": int(index or 0)}
    # Float32 as it is on the CPU and in eager mode, not TF32 with its ten bits.
    chosen: list[tuple[str, dict[str, Any]]] = [(CUDA, {**which, "use_tf32": 0}), (CPU, {})]
    if tensorrt and TENSORRT in offered:
        # Building an engine takes minutes; kept, the next start takes seconds.
        cache = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(cache_dir() / "tensorrt")}
        chosen.insert(0, (TENSORRT, {**which, **cache}))
    return chosen


def _open(file: Path, device: str, threads: int) -> Any:
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
    try:
        session = onnxruntime.InferenceSession(str(file), make_options(threads), providers=providers)
    except Exception as error:  # its exceptions have no common base of their own
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{file} cannot be read as an ONNX model: {reason or type(error).__name__}") from error
    if providers[0][0] != CPU and CUDA not in session.get_providers():
        raise ParameterError(f"onnxruntime could not start CUDA on {device!r}: its CUDA libraries do not load")
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
