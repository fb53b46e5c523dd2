"""FOUND by an exported backbone that holds its head: the same answers with torch and without, and files it refuses."""

import json
import re

import cv2
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file

from objloc_ros.backbones.onnx_file import has_found_head, read_exported_info
from objloc_ros.backbones.registry import find_entry
from objloc_ros.cli.main import main
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.heads.found import ExportedFoundHead, FoundHead
from objloc_ros.engine.loader import SharedLoader
from objloc_ros.engine.pipeline import build_pipeline, load_pipeline
from objloc_ros.errors import InputError, ParameterError, WeightsError
from objloc_ros.scenes.video import drive_video

CLOSE = 1e-4
"""Largest difference of saliency and scores from torch's; masks may differ where the threshold is as near."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The embedded backbone with its own head, of any size; and with another head, of a fixed size."""
    folder = tmp_path_factory.mktemp("exported")
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(1, 160, 1, 1, generator=generator)
    save_file({"weight": weight, "bias": torch.zeros(1)}, folder / "head.safetensors")
    assert main(["export", "--out", str(folder / "found.onnx")]) == 0
    fixed = ["--size", "96x128", "--batch", "1", "--head-weights", str(folder / "head.safetensors")]
    assert main(["export", *fixed, "--out", str(folder / "other.onnx")]) == 0
    return folder


@pytest.fixture(scope="module")
def images():
    frames = [frame for frame, _ in drive_video(seed=3, size=(230, 322), frames=2)]  # sides that patches do not divide
    photograph = cv2.imread(str(find_entry("tiny").path.parents[2] / "scenes" / "photographs" / "1_dogs.jpg"))
    return [*frames, np.ascontiguousarray(photograph[..., ::-1]), frames[0][:40, :56]]


def assert_same(found, wanted, threshold=0.5):
    assert found.geometry == wanted.geometry
    np.testing.assert_allclose(found.saliency, wanted.saliency, rtol=0, atol=CLOSE)
    near = np.abs(wanted.saliency - threshold) <= CLOSE
    assert (found.mask == wanted.mask)[~near].all()
    assert len(found.detections) == len(wanted.detections)
    np.testing.assert_allclose(found.detections.boxes, wanted.detections.boxes, atol=3.5)  # a processed pixel
    np.testing.assert_allclose(found.detections.scores, wanted.detections.scores, atol=CLOSE)
    np.testing.assert_allclose(found.main_box(), wanted.main_box(), atol=1e-3)


def load_eager(**given):
    pipeline = load_pipeline(device="cpu", **given)
    pipeline.backbone.bfloat16 = False
    return pipeline


@pytest.mark.parametrize("ignore", ["", "0,0.6 1,0.6 1,1 0,1"])
def test_the_answers_are_those_of_torch(exported, images, ignore):
    light = load_pipeline(device="cpu", weights=exported / "found.onnx")
    assert isinstance(light._heads["found"], ExportedFoundHead)
    assert (light.device, light.short_side("found")) == ("cpu", 192)
    eager = load_eager()
    eager.ignore = light.ignore = ignore
    seen = 0
    for found, wanted in zip(light.run(images), eager.run(images), strict=True):
        assert_same(found["found"], wanted["found"])
        seen += len(wanted["found"].detections)
    assert seen > 2


@pytest.fixture(scope="module")
def half(exported):
    """The embedded backbone in float16, of a fixed size."""
    file = exported / "half.onnx"
    assert main(["export", "--size", "192x256", "--batch", "1", "--precision", "float16", "--out", str(file)]) == 0
    return file


@pytest.mark.parametrize("methods", [("found",), ("found", "lost")], ids=["alone", "with torch"])
def test_a_file_says_its_precision_and_has_no_other(exported, half, methods):
    for file, own, other in ((exported / "found.onnx", "float32", "float16"), (half, "float16", "bfloat16")):
        for precision in ("auto", own):
            assert load_pipeline(methods, device="cpu", weights=file, precision=precision).precision == own
        refusal = f"precision {other} is not that of {re.escape(str(file))}, which was exported in {own}"
        with pytest.raises(ParameterError, match=refusal):
            load_pipeline(methods, device="cpu", weights=file, precision=other)


def test_float16_decides_alike(half, images):
    """On the CPU, whose ONNX Runtime computes some operators of a float16 graph in float32."""
    light, eager = load_pipeline(device="cpu", weights=half), load_eager()
    for image in images[:3]:
        image = cv2.resize(image, (256, 192), interpolation=cv2.INTER_AREA)
        found, wanted = light.run(image)["found"], eager.run(image)["found"]
        assert np.abs(found.saliency - wanted.saliency).max() < 0.02
        assert (found.mask & wanted.mask).sum() > 0.98 * (found.mask | wanted.mask).sum()
        assert len(found.detections) == len(wanted.detections)


def test_options_and_sizes_hold(exported, images):
    light = load_pipeline(device="cpu", weights=exported / "found.onnx", short_side=96)
    eager = load_eager(short_side=96)
    for pipeline in (light, eager):
        pipeline.configure("found", threshold=0.3, mode="single", post="bilateral")
    found, wanted = light.run(images[2])["found"], eager.run(images[2])["found"]
    assert found.geometry.resized[0] == 96
    assert_same(found, wanted, 0.3)


def test_the_head_in_the_file_is_the_one_that_is_read(exported, images):
    image = cv2.resize(images[2], (128, 96))
    registered = load_pipeline(device="cpu").run(image)["found"]
    own = load_eager(head_weights=exported / "head.safetensors")
    wanted = own.run(image)["found"]
    assert np.abs(wanted.saliency - registered.saliency).max() > 0.1
    alone = load_pipeline(device="cpu", weights=exported / "other.onnx")
    beside = load_pipeline(("found", "lost"), device="cpu", weights=exported / "other.onnx")
    assert isinstance(beside._heads["found"], FoundHead)
    for pipeline in (alone, beside):
        assert_same(pipeline.run(image, ["found"])["found"], wanted)
    # A head that is named takes the place of the one in the file.
    named = load_pipeline(
        device="cpu", weights=exported / "other.onnx", head_weights=find_entry("tiny_found_head").path
    )
    np.testing.assert_allclose(named.run(image)["found"].saliency, registered.saliency, atol=0.05)


def test_cameras_that_share_passes_share_them_still(exported, images):
    shared = SharedLoader()
    config = PipelineConfig(methods=("found",), device="cpu", weights=exported / "found.onnx")
    left, right = (build_pipeline(config, shared.make_client(name)) for name in ("left", "right"))
    assert left._heads is right._heads
    assert isinstance(left._heads["found"], FoundHead)
    own = build_pipeline(PipelineConfig(methods=("found",), device="cpu"), shared.make_client("left"))
    assert own._heads is not left._heads  # of other weights
    assert_same(
        left.run(images[0])["found"], load_pipeline(device="cpu", weights=config.weights).run(images[0])["found"]
    )


def test_an_image_of_another_size_than_the_exported_one_is_named(exported, images):
    pipeline = load_pipeline(device="cpu", weights=exported / "other.onnx")
    with pytest.raises(
        InputError, match=r"other.onnx was exported for inputs of height 96 and width 128, got height 1"
    ):
        pipeline.run(images[0])


def refuse(folder, change, match, error=WeightsError, **given):
    model = onnx.load(folder / "other.onnx")
    change(model)
    onnx.save(model, folder / "changed.onnx")
    with pytest.raises(error, match=match):
        load_pipeline(device="cpu", weights=folder / "changed.onnx", **given)


def declare_answers(model):
    (entry,) = [entry for entry in model.metadata_props if entry.key == "objloc.answers"]
    entry.value = json.dumps({"found": [0, 1], "boxes": [4, 1]})


def send_weights_away(model):
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    tensor.name, tensor.data_location = tensor.name, onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    tensor.ClearField("raw_data")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda model: model.graph.output.pop(), r"expected images to keys, queries, values, cls_attention, found$"),
        (declare_answers, r"maps images, .*, found, expected images to .*, found, boxes$"),
        (lambda model: setattr(model.opset_import[0], "version", 99), r"cannot be read as an ONNX model: .*99"),
        (send_weights_away, r"keeps the weights '.+' in another file, expected one file with all of them"),
        (lambda model: model.graph.node.pop(3), "cannot be read as an ONNX model: "),
    ],
    ids=["no head", "no boxes", "opset", "external", "damaged"],
)
def test_files_that_do_not_hold_what_they_say_are_refused(exported, change, match):
    refuse(exported, change, match)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_a_part_of_a_file_is_refused(exported, part, tmp_path):
    whole = (exported / "found.onnx").read_bytes()
    (tmp_path / "part.onnx").write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(
        WeightsError, match=r"part.onnx (cannot be read as an ONNX model: it is cut off|lacks the metadata)"
    ):
        load_pipeline(device="cpu", weights=tmp_path / "part.onnx")


def test_the_file_of_another_backbone_is_refused(exported):
    with pytest.raises(WeightsError, match=r"found.onnx is an exported tiny, expected dino_vits16"):
        load_pipeline(device="cpu", backbone="dino_vits16", weights=exported / "found.onnx")


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "cuda:one", "tpu"])
def test_a_device_that_is_not_there_is_refused(exported, device):
    with pytest.raises(ParameterError, match=f"this onnxruntime cannot run on '{device}'"):
        load_pipeline(device=device, weights=exported / "found.onnx")


def test_without_a_head_in_the_file_the_registered_one_reads_its_features(exported, images):
    model = onnx.load(exported / "other.onnx")
    model.graph.output.pop()
    for entry in model.metadata_props:
        entry.value = "{}" if entry.key == "objloc.answers" else entry.value
    onnx.save(model, exported / "bare.onnx")
    assert not has_found_head(exported / "bare.onnx")
    assert list(read_exported_info(exported / "other.onnx").answers) == ["found"]
    image = cv2.resize(images[2], (128, 96))
    pipeline = load_pipeline(device="cpu", weights=exported / "bare.onnx")
    assert_same(pipeline.run(image)["found"], load_eager().run(image)["found"])
