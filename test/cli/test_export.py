"""`objloc export`: what it prints, what it refuses, and that a file has its name only when it is good."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
import torch
from detector_making import make_detector
from safetensors.torch import save_file

from objloc_ros.backbones import onnx_export
from objloc_ros.backbones.onnx_runtime import load_exported
from objloc_ros.backbones.registry import find_entry
from objloc_ros.backbones.vit import build_vit
from objloc_ros.cli.main import main

SMALL = ("--size", "16x24", "--batch", "1")
"""A fixed size is translated four times as fast as an open one."""


def test_export_and_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "own.safetensors"
    save_file(build_vit("tiny").vit.state_dict(), weights)
    out = tmp_path / "tiny.onnx"
    assert main(["export", "--weights", str(weights), "--batch", "dynamic", "--size", "16x24", "--out", str(out)]) == 0
    first, _, _, head, *rows = capsys.readouterr().out.splitlines()
    assert first == f"{out}: tiny, {out.stat().st_size / 1e6:.1f} MB"
    assert head.split() == ["INPUT", "KEYS", "QUERIES", "VALUES", "CLS_ATTENTION", "FOUND"]
    assert [row.split()[0] for row in rows] == ["1x3x16x24", "2x3x16x24"]
    assert all(float(cell) <= 1e-4 for row in rows for cell in row.split()[1:])
    model = load_exported(out, backbone="tiny").model
    assert model.info.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert model.fixed == (None, 16, 24)
    assert str(Path(onnx_export.__file__).parents[2]).encode() not in out.read_bytes()


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tiny.onnx"
    assert main(["export", "--backbone", "tiny", *SMALL, "--json", "--out", str(out)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["path"], facts["backbone"], facts["size_bytes"]) == (str(out), "tiny", out.stat().st_size)
    assert facts["tolerance"] == onnx_export.TOLERANCES["float32"]
    assert [row["input"] for row in facts["differences"]] == [[1, 3, 16, 24]] * 2
    assert max(row["keys"] for row in facts["differences"]) < 1e-5
    digest = hashlib.sha256(find_entry("tiny").path.read_bytes()).hexdigest()
    assert load_exported(out).model.info.weights_sha256 == digest


def test_float16_is_of_the_pass_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {}
    for precision in ("float32", "float16"):
        out = tmp_path / f"{precision}.onnx"
        assert main(["export", *SMALL, "--precision", precision, "--json", "--out", str(out)]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["precision"], facts["tolerance"]) == (precision, onnx_export.TOLERANCES[precision])
        sizes[precision] = out.stat().st_size
    assert sizes["float16"] < 0.6 * sizes["float32"]
    differences = [value for row in facts["differences"] for name, value in row.items() if name != "input"]
    assert max(differences) < 1e-2
    assert min(row["keys"] for row in facts["differences"]) > 2e-5  # more than float32's rounding
    graph = onnx.load(out).graph
    assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {onnx.TensorProto.FLOAT}
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    found = [node for node in graph.node if node.op_type == "Conv"][-1]  # FOUND's head
    assert kinds[found.input[1].removesuffix("_cast_to_fp32")] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.FLOAT16 in kinds.values()


def test_a_detector_goes_into_the_same_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector, out = make_detector(tmp_path / "detector.safetensors"), tmp_path / "both.onnx"
    assert main(["export", *SMALL, "--detector", str(detector), "--json", "--out", str(out)]) == 0
    for row in json.loads(capsys.readouterr().out)["differences"]:
        assert {"keys", "objectness", "boxes", "kernels", "pixels"} < row.keys()
        assert max(value for name, value in row.items() if name != "input") < 1e-4
    features = load_exported(out)(torch.zeros(1, 3, 16, 24))
    assert features.answers["pixels"].shape == (1, 4, 4, 6)


def test_another_backbone_s_detector_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector = make_detector(tmp_path / "detector.safetensors", of="0" * 64)
    assert main(["export", *SMALL, "--detector", str(detector), "--out", str(tmp_path / "both.onnx")]) == 2
    assert "trained on other weights of tiny" in capsys.readouterr().err
    assert not (tmp_path / "both.onnx").exists()


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A folder with the file of an earlier export."""
    (tmp_path / "tiny.onnx").write_bytes(b"the earlier one")
    return tmp_path


def assert_untouched(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["tiny.onnx"]
    assert (folder / "tiny.onnx").read_bytes() == b"the earlier one"


def test_a_model_that_differs_is_not_written(
    before: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def skewed(pos_embed: torch.Tensor, grid: tuple[int, int], *, rule: str) -> torch.Tensor:
        return pos_embed[:, : 1 + grid[0] * grid[1]]

    monkeypatch.setattr(onnx_export, "open_pos_embed", skewed)
    assert main(["export", *SMALL, "--out", str(before / "tiny.onnx")]) == 2
    assert "the exported keys differ by" in capsys.readouterr().err
    assert_untouched(before)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_breaks_off_leaves_nothing(
    error: BaseException, before: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Program:
        model = None

        def save(self, path: Path, **_: object) -> None:
            path.write_bytes(b"half of a")
            raise error

    monkeypatch.setattr(onnx_export, "_translate", lambda *_: Program())
    monkeypatch.setattr(onnx_export, "_describe", lambda *_: None)
    assert main(["export", *SMALL, "--out", str(before / "tiny.onnx")]) in (2, 130)
    message = capsys.readouterr().err
    assert "No space left on device" in message or "interrupted" in message
    assert_untouched(before)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--out", "{}/model.pt"], "--out must end in .onnx"),
        (["--out", "{}/no/such/folder/model.onnx"], "there is no folder"),
        (["--size", "64x97", "--out", "{}/model.onnx"], "multiples of the patch size 8, got 97x64"),
        (["--weights", "{}/other.onnx", "--out", "{}/model.onnx"], "not an exported model, got"),
        (["--weights", "{}/other.pth", "--out", "{}/model.onnx"], "no weights file"),
        (["--backbone", "dino_vits8", "--out", "{}/model.onnx"], "objloc weights fetch dino_vits8"),
    ],
)
def test_errors_name_value_and_constraint(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    assert main(["export", *(argument.format(tmp_path) for argument in arguments)]) == 2
    assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--size", "64"], ["--size", "ax b"], ["--batch", "0"], ["--batch", "many"], []])
def test_usage(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "model.onnx")] if arguments else []
    with pytest.raises(SystemExit):
        main(["export", *arguments, *out])
    complaint = capsys.readouterr().err
    assert repr(arguments[1]) in complaint if arguments else "--out" in complaint


def test_packages_that_are_missing_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name == "onnxscript" else find_spec(name))
    assert main(["export", "--out", str(tmp_path / "model.onnx")]) == 2
    assert "exporting needs onnxscript: pip install onnxscript" in capsys.readouterr().err
