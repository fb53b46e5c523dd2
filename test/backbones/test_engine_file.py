"""Engine files: what they say, and the machines and halves that are refused. No engine is built or run here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from onnx import TensorProto, helper

from objloc_ros.backbones import engine_machine, onnx_file
from objloc_ros.backbones.engine_machine import Machine, read_machine
from objloc_ros.backbones.onnx_engine import mark_engine
from objloc_ros.backbones.onnx_file import ExportedInfo, open_exported, read_exported_info
from objloc_ros.cli.main import main
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.errors import WeightsError

BUILT_FOR = Machine("NVIDIA H200", "9.0", "570.86.15", "10.9.0.34", "1.32.0")
SHAPES = {
    "keys": (1, 6, 160),
    "queries": (1, 6, 160),
    "values": (1, 6, 160),
    "cls_attention": (1, 5, 6),
    "found": (1, 2, 3),
}


@pytest.fixture
def info() -> ExportedInfo:
    return ExportedInfo(
        backbone="tiny",
        patch=8,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
        weights_sha256="0" * 64,
        fingerprint="f" * 64,
        answers={"found": onnx_file.AnswerShape(0, 1)},
        precision="float16",
    )


def wrap(file: Path, operators: tuple[str, ...] = ("EPContext",)) -> Path:
    """Write what ONNX Runtime writes of an engine: one node that holds it."""
    nodes = [
        helper.make_node(name, ["images"], list(SHAPES) if number == 0 else [f"unused{number}"], domain="com.microsoft")
        for number, name in enumerate(operators)
    ]
    nodes[0].attribute.append(helper.make_attribute("ep_cache_context", b"not an engine " * 100))
    graph = helper.make_graph(
        nodes,
        "engine",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, 16, 24))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in SHAPES.items()],
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), file)
    return file


@pytest.fixture
def engine(tmp_path: Path, info: ExportedInfo) -> Path:
    file = wrap(tmp_path / "engine.onnx")
    mark_engine(file, info, BUILT_FOR)
    return file


def test_a_file_says_which_machine_its_engine_is_for(engine: Path, info: ExportedInfo) -> None:
    found = read_exported_info(engine)
    assert Machine.from_dict(found.engine, engine) == BUILT_FOR
    assert (found.precision, found.backbone, found.fingerprint) == ("float16", "tiny", info.fingerprint)
    assert dict(found.answers) == dict(info.answers)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cpu", r"engine.onnx is a TensorRT engine, which runs on a GPU alone, got device 'cpu'"),
        ("auto", "TensorRT engines need tensorrt, not installed here"),
    ],
)
def test_a_machine_without_a_gpu_is_refused(
    engine: Path, device: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_machine, "find_spec", lambda name: None if name == "tensorrt" else name)
    with pytest.raises(WeightsError, match=said):
        load_pipeline(device=device, weights=engine)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gpu": "NVIDIA L4", "compute": "8.9"}, r"\(gpu NVIDIA H200, here NVIDIA L4; compute 9.0, here 8.9\)"),
        ({"driver": "580.12"}, r"\(driver 570.86.15, here 580.12\)"),
        ({"tensorrt": "10.13.2"}, r"\(tensorrt 10.9.0.34, here 10.13.2\): build it anew on this one"),
        ({"onnxruntime": "1.33.0"}, r"\(onnxruntime 1.32.0, here 1.33.0\)"),
    ],
)
def test_another_machine_is_refused(
    engine: Path, changed: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Machine(**{**BUILT_FOR.to_dict(), **changed})
    monkeypatch.setattr(onnx_file, "read_machine", lambda index: here)
    with pytest.raises(WeightsError, match=f"engine.onnx is a TensorRT engine for another machine {said}"):
        open_exported(engine, "cuda")


def test_the_gpu_of_the_device_is_the_one_that_is_asked_about(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(index: int) -> Machine:
        asked.append(index)
        raise WeightsError("no such GPU")

    monkeypatch.setattr(onnx_file, "read_machine", read)
    for device in ("cuda", "cuda:3"):
        with pytest.raises(WeightsError, match="no such GPU"):
            open_exported(engine, device)
    assert asked == [0, 3]


def test_another_backbone_is_refused_before_the_machine_is_looked_at(engine: Path) -> None:
    with pytest.raises(WeightsError, match=r"engine.onnx is an exported tiny, expected dino_vits8"):
        open_exported(engine, "cuda", backbone="dino_vits8")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.95])
def test_half_an_engine_is_refused(engine: Path, part: float) -> None:
    whole = engine.read_bytes()
    engine.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(WeightsError, match="cannot be read as an ONNX model: it is cut off"):
        open_exported(engine, "cuda")


def test_machines_that_are_not_whole_are_refused(engine: Path) -> None:
    model = onnx.load(engine)
    (entry,) = [entry for entry in model.metadata_props if entry.key == "objloc.engine"]
    entry.value = '{"gpu": "NVIDIA H200"}'
    onnx.save(model, engine)
    with pytest.raises(
        WeightsError, match="names gpu of its engine's machine, expected gpu, compute, driver, tensorrt"
    ):
        open_exported(engine, "cuda")


@pytest.mark.parametrize(
    ("operators", "said"),
    [
        (("EPContext", "Softmax"), "2 operators are left, 1 of them engines"),
        (("MatMul",), "1 operators are left, 0 of them engines"),
    ],
)
def test_what_is_not_one_engine_alone_is_not_marked_as_one(
    tmp_path: Path, info: ExportedInfo, operators: tuple[str, ...], said: str
) -> None:
    with pytest.raises(WeightsError, match=f"TensorRT did not take the whole model: {said}"):
        mark_engine(wrap(tmp_path / "part.onnx", operators), info, BUILT_FOR)


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of that name with a version, which is all that is read of it."""
    module = ModuleType("tensorrt")
    module.__version__ = "10.9.0.34"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(engine_machine, "find_spec", lambda name: name)


def say(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:2] == ["nvidia-smi", "--id=1"]
        return subprocess.CompletedProcess(command, 0, text)

    monkeypatch.setattr(engine_machine.subprocess, "run", run)


def test_the_driver_says_which_gpu_there_is(tensorrt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    say(monkeypatch, "NVIDIA H200, 9.0, 570.86.15\n")
    machine = read_machine(1)
    assert (machine.gpu, machine.compute, machine.driver) == ("NVIDIA H200", "9.0", "570.86.15")
    assert machine.tensorrt == "10.9.0.34"
    say(monkeypatch, "No devices were found\n")
    with pytest.raises(
        WeightsError, match="nvidia-smi says 'No devices were found' of GPU 1, expected name,compute_cap"
    ):
        read_machine(1)


def test_a_machine_without_a_driver_builds_no_engine(
    tensorrt: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["export", "--build-engine", "--size", "16x24", "--out", str(tmp_path / "engine.onnx")]) == 2
    assert "need an NVIDIA GPU, and nvidia-smi tells of none" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "16x24"], "TensorRT engines need tensorrt, not installed here: pip install tensorrt"),
        ([], "--build-engine needs --size HxW: an engine is built for one size"),
    ],
)
def test_what_an_engine_needs_is_said(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine_machine, "find_spec", lambda name: None if name == "tensorrt" else name)
    assert main(["export", "--build-engine", *arguments, "--out", str(tmp_path / "engine.onnx")]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
