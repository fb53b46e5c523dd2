"""Exported backbones against the eager ones, and files that are not exported backbones."""

import json
import sys

import numpy as np
import onnx
import pytest
import torch

from objloc_ros.backbones.onnx_export import export_backbone
from objloc_ros.backbones.onnx_file import CPU, CUDA, FACETS, TENSORRT, choose_providers
from objloc_ros.backbones.onnx_positions import open_pos_embed
from objloc_ros.backbones.onnx_runtime import ExportedViT, load_exported
from objloc_ros.backbones.specs import SPECS, ViTSpec
from objloc_ros.backbones.vit import ViT, build_vit
from objloc_ros.backbones.weights import fingerprint, load_backbone
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.errors import InputError, ParameterError, WeightsError
from objloc_ros.scenes.video import drive_video
from objloc_ros.types import Features

CLOSE = 2e-5
"""Largest difference between float32 passes, relative to the largest value; 1e-6 to 6e-6 were seen."""

DIGEST = "0" * 64


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def tiny_file(tiny, tmp_path_factory):
    file = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    export_backbone(tiny, file, backbone="tiny", weights_sha256=DIGEST)
    return file


@pytest.fixture(scope="module")
def small():
    """A backbone with DINO's position rule that is exported in a second, registered while the module runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPECS, "small", ViTSpec(patch=16, embed_dim=24, depth=2, n_heads=2, base=64))
        torch.manual_seed(0)
        model = build_vit("small").eval().requires_grad_(False)
        torch.nn.init.normal_(model.vit.pos_embed, std=0.5)
        yield model


@pytest.fixture(scope="module")
def small_file(small, tmp_path_factory):
    file = tmp_path_factory.mktemp("exported") / "small.onnx"
    export_backbone(small, file, backbone="small", weights_sha256=DIGEST)
    return file


@pytest.fixture(scope="module")
def fixed(small, tmp_path_factory):
    file = tmp_path_factory.mktemp("exported") / "fixed.onnx"
    export_backbone(small, file, backbone="small", weights_sha256=DIGEST, size=(32, 48), batch=2)
    return load_exported(file)


def assert_same(exported, eager, images):
    with torch.inference_mode():
        found, wanted = exported(images), eager(images)
    assert isinstance(found, Features)
    assert found.grid == wanted.grid
    for name in FACETS:
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert ours.dtype == torch.float32
        assert not ours.requires_grad
        torch.testing.assert_close(ours, theirs, rtol=0, atol=CLOSE * theirs.abs().max().item(), msg=name)


@pytest.mark.parametrize("shape", [(1, 192, 256), (2, 64, 96), (3, 128, 128), (1, 8, 8), (5, 8, 40), (1, 200, 104)])
def test_the_embedded_model_exported_gives_the_eager_features(tiny, tiny_file, shape):
    count, *size = shape
    assert_same(load_exported(tiny_file), tiny, torch.randn(count, 3, *size))


@pytest.mark.parametrize("shape", [(1, 64, 64), (2, 64, 80), (1, 480, 640), (3, 16, 16), (1, 80, 64), (2, 160, 32)])
def test_dino_exported_gives_the_eager_features(small, small_file, shape):
    count, *size = shape
    assert_same(load_exported(small_file), small, torch.randn(count, 3, *size))


@pytest.mark.parametrize("grid", [(14, 14), (30, 40), (7, 9), (14, 15), (1, 1), (28, 28), (135, 240)])
@pytest.mark.parametrize("rule", ["dino", "size"])
def test_position_embedding_of_an_open_size_is_that_of_a_known_one(grid, rule):
    spec = ViTSpec(patch=16, embed_dim=8, depth=1, n_heads=1, pos_embed=rule)
    table = torch.randn(1, 1 + 14 * 14, 8)
    eager = ViT(build_vit("dino_vits16").vit, spec)
    wanted = eager.positions(table, grid)
    torch.testing.assert_close(open_pos_embed(table, grid, rule=rule), wanted, atol=2e-5, rtol=0)


def test_an_exported_model_looks_like_the_eager_one_to_the_pipeline(tiny, tiny_file):
    exported = load_backbone("tiny", path=tiny_file, device="cpu")
    assert isinstance(exported, ExportedViT)
    for name in ("patch", "embed_dim", "n_heads", "mean", "std"):
        assert getattr(exported, name) == getattr(tiny, name)
    assert exported.spec.short_side == tiny.spec.short_side
    assert not exported.spec.bfloat16
    assert exported.model.info.weights_sha256 == DIGEST
    assert list(exported.parameters()) == []
    assert exported.model.session.get_session_options().intra_op_num_threads == torch.get_num_threads()


def test_found_sees_the_same_objects(tiny_file, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)  # float32 both
    eager, exported = (load_pipeline(device="cpu", weights=path) for path in (None, str(tiny_file)))
    images = [image for image, _ in drive_video(seed=3, size=(240, 320), frames=3)]
    seen = 0
    for wanted, found in zip(eager.run(images), exported.run(images), strict=True):
        wanted, found = wanted["found"], found["found"]
        np.testing.assert_array_equal(found.mask_u8(), wanted.mask_u8())
        np.testing.assert_array_equal(found.detections.boxes, wanted.detections.boxes)
        np.testing.assert_allclose(found.detections.scores, wanted.detections.scores, atol=1e-4)
        np.testing.assert_allclose(found.saliency, wanted.saliency, atol=1e-4)
        seen += len(wanted.detections)
    assert seen > 0


def test_memory_that_is_not_contiguous_is_read_right(small, small_file):
    assert_same(load_exported(small_file), small, torch.randn(2, 3, 48, 32).transpose(2, 3))


@pytest.mark.parametrize("size", [(15, 16), (0, 16), (16, 17)])
def test_sides_must_be_multiples_of_the_patch(small, small_file, size):
    for model in (small, load_exported(small_file)):
        with pytest.raises(InputError, match="multiples of the patch size 16, got"):
            model(torch.zeros(1, 3, *size))


def test_a_fixed_size_is_kept_and_named(small, fixed):
    assert_same(fixed, small, torch.randn(2, 3, 32, 48))
    with pytest.raises(InputError, match=r"inputs of height 32 and width 48, got height 48 and width 32; .*--size"):
        fixed(torch.zeros(2, 3, 48, 32))
    with pytest.raises(InputError, match=r"2 image\(s\) at a time, got 1; .*--batch"):
        fixed(torch.zeros(1, 3, 32, 48))


def put(key, value):
    def change(model):
        (entry,) = (entry for entry in model.metadata_props if entry.key == f"objloc.{key}")
        entry.value = value

    return change


def drop_last_output(model):
    del model.graph.output[-1]


def rename_input(model):
    model.graph.input[0].name = "pixels"
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "images" else name for name in node.input]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda model: model.ClearField("metadata_props"), r"lacks the metadata 'objloc.format'.*`objloc export`"),
        (put("format", "2"), "has format 2, this version reads 1"),
        (put("backbone", "resnet"), "unknown backbone 'resnet'; known: dino_vits16"),
        (put("backbone", "dino_vits16"), r"keys of tensor\(float\) .*expected float32 with 3 dimensions, 384 along"),
        (put("patch", "8"), "has patch size 8, but small has 16"),
        (put("mean", "[0.5, 0.5"), r"'objloc.mean' = '\[0.5, 0.5', expected JSON"),
        (put("mean", json.dumps([0.5, "a", 0.5])), r"has mean \[0.5, 'a', 0.5\], expected three numbers"),
        (put("std", "[0.5, 0.5, 0]"), r"has std \[0.5, 0.5, 0.0\], expected positive numbers"),
        (put("precision", "int8"), "has precision 'int8', expected one of float32, float16"),
        (put("engine", "[]"), r"has engine \[\], expected texts"),
        (drop_last_output, "maps images, keys, queries, values, expected images to keys, queries, values, cls_att"),
        (rename_input, "maps pixels, keys"),
    ],
)
def test_files_that_do_not_describe_a_backbone_are_refused(small, small_file, tmp_path, change, complaint):
    model = onnx.load(small_file)
    change(model)
    onnx.save(model, tmp_path / "changed.onnx")
    with pytest.raises(WeightsError, match=complaint):
        load_exported(tmp_path / "changed.onnx")


def test_the_backbone_must_be_the_one_that_was_asked_for(small_file):
    with pytest.raises(WeightsError, match=r"small.onnx is an exported small, expected tiny"):
        load_backbone("tiny", path=small_file)


def test_what_is_no_onnx_file_is_refused(small_file, tmp_path):
    (tmp_path / "text.onnx").write_text("a picture of a cat")
    (tmp_path / "cut.onnx").write_bytes(small_file.read_bytes()[:-5000])
    for name in ("text.onnx", "cut.onnx"):
        with pytest.raises(WeightsError, match=f"{name} cannot be read as an ONNX model: "):
            load_backbone("small", path=tmp_path / name)
    with pytest.raises(WeightsError, match=r"no weights file .*absent.onnx"):
        load_backbone("small", path=tmp_path / "absent.onnx")


def test_a_recorded_hash_holds_for_exported_models_too(small_file, tmp_path):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(small_file.read_bytes())
    (tmp_path / "copy.onnx.sha256").write_text(f"{DIGEST}  copy.onnx\n")
    with pytest.raises(WeightsError, match="damaged or not what it claims"):
        load_exported(copy)


def test_without_onnxruntime_the_error_says_what_to_install(small_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(WeightsError, match=r"needs ONNX Runtime: pip install onnxruntime \(onnxruntime-gpu for CUDA\)"):
        load_exported(small_file)


@pytest.mark.parametrize(
    ("device", "offered", "tensorrt", "chosen"),
    [
        ("cpu", [TENSORRT, CUDA, CPU], True, [CPU]),
        ("cuda", [CUDA, CPU], True, [CUDA, CPU]),
        ("cuda:1", [TENSORRT, CUDA, CPU], False, [CUDA, CPU]),
        ("cuda:1", [TENSORRT, CUDA, CPU], True, [TENSORRT, CUDA, CPU]),
    ],
)
def test_execution_providers_follow_the_device(device, offered, tensorrt, chosen):
    providers = choose_providers(device, offered, tensorrt=tensorrt)
    assert [name for name, _ in providers] == chosen
    index = torch.device(device).index or 0
    assert all(options["device_id"] == index for name, options in providers if name != CPU)


def test_a_device_that_onnxruntime_does_not_offer_is_refused():
    with pytest.raises(ParameterError, match=r"cannot run on 'cuda:1', it offers CPU.*onnxruntime-gpu"):
        choose_providers("cuda:1", [CPU], tensorrt=False)


def test_an_exported_backbone_has_the_eager_fingerprint(tiny, tiny_file, small, small_file):
    assert fingerprint(load_exported(tiny_file)) == fingerprint(tiny)
    assert fingerprint(load_exported(small_file)) == fingerprint(small) != fingerprint(tiny)


def test_files_of_earlier_versions_have_no_fingerprint(small, small_file, tmp_path):
    earlier = onnx.load(small_file)
    kept = [entry for entry in earlier.metadata_props if entry.key != "objloc.fingerprint"]
    assert len(kept) == len(earlier.metadata_props) - 1
    del earlier.metadata_props[:]
    earlier.metadata_props.extend(kept)
    onnx.save(earlier, tmp_path / "earlier.onnx")
    backbone = load_exported(tmp_path / "earlier.onnx")
    with pytest.raises(WeightsError, match=r"earlier.onnx does not tell .*: export it anew"):
        fingerprint(backbone)
