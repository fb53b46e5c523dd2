"""The detector in a pipeline: pixels, scores, labels and ids, and the files that are refused."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from detector_making import make_detector
from safetensors.torch import load_file, save_file

from objloc_ros.backbones.registry import find_entry
from objloc_ros.cli.main import main
from objloc_ros.engine.config import DISCOVERY, NODES, PipelineConfig
from objloc_ros.engine.heads.detector import load_detector_head
from objloc_ros.engine.labels import list_labels
from objloc_ros.engine.loader import SharedLoader
from objloc_ros.engine.pipeline import build_pipeline, load_pipeline
from objloc_ros.engine.results import InstanceResult
from objloc_ros.engine.temporal import Memory
from objloc_ros.engine.video_tracker import VideoOptions, VideoTracker
from objloc_ros.errors import InputError, ParameterError, WeightsError
from objloc_ros.methods.token_detector import decode
from objloc_ros.scenes.video import drive_video
from objloc_ros.types import Features

CLASSES = ("crate", "hand")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return make_detector(tmp_path_factory.mktemp("detectors") / "detector.safetensors")


def load_head(file):
    return load_detector_head("tiny", path=file, weights=None, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def exported(file, tmp_path_factory):
    """A backbone in ONNX files: alone, with a detector of one class, and with one of two."""
    folder = tmp_path_factory.mktemp("exported")
    make_detector(folder / "classes.safetensors", classes=CLASSES)
    for name, head in (("one", file), ("two", folder / "classes.safetensors")):
        # A fixed size is translated four times as fast as an open one.
        options = ("--size", "104x136", "--detector", str(head), "--out", str(folder / f"{name}.onnx"))
        assert main(["export", *options]) == 0
    alone = onnx.load(folder / "one.onnx")
    del alone.graph.output[4:]
    for entry in alone.metadata_props:
        entry.value = "{}" if entry.key in ("objloc.answers", "objloc.head") else entry.value
    onnx.save(alone, folder / "alone.onnx")
    return folder


@pytest.fixture(scope="module")
def pipeline(file):
    return load_pipeline(("detector",), device="cpu", head_weights=file)


@pytest.fixture(scope="module")
def frames():
    return [frame for frame, _ in drive_video(seed=3, size=(100, 132), frames=4)]  # sides that patches do not divide


@pytest.fixture(autouse=True)
def defaults(pipeline):
    yield
    pipeline.configure("detector", threshold=0.05, max_detections=30, post="none")


def test_it_is_a_method_of_the_discovery_node():
    assert "detector" in DISCOVERY
    assert NODES["detector"] == "discovery"


def test_boxes_scores_and_pixels_are_the_network_s(pipeline, file, frames):
    got = pipeline.run(frames[0])["detector"]
    assert isinstance(got, InstanceResult)
    encoded = pipeline.backbone.encode([frames[0]])
    head = load_head(file)
    with torch.inference_mode():
        (wanted,) = decode(head.see(encoded.features), threshold=0.05, limit=30)
    assert 1 < len(got.detections) <= len(wanted.scores)
    np.testing.assert_allclose(got.detections.scores[0], wanted.scores[0], atol=1e-6)
    assert set(got.detections.labels) == {"object"}
    limits = np.array([132, 100, 132, 100], np.float32)
    np.testing.assert_allclose(got.detections.boxes[0], np.minimum(wanted.boxes[0].numpy() * 8, limits), atol=1e-4)
    best = got.instances_u16() == 1
    rows, columns = np.arange(100) // 4, np.arange(132) // 4
    np.testing.assert_array_equal(best, wanted.masks[0].numpy()[rows[:, None], columns])


def test_the_better_of_two_objects_has_the_pixels_of_both(pipeline, frames):
    got = pipeline.run(frames[0])["detector"]
    assert (np.diff(got.detections.scores) <= 0).all()
    assert set(np.unique(got.instances)) <= set(range(len(got.detections) + 1))
    x1, y1, x2, y2 = got.detections.boxes[0].astype(int)
    rows, columns = (got.instances_u16() == 1).nonzero()
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x1, y1, x2, y2)


def test_images_of_a_batch_are_seen_as_each_alone(pipeline, frames):
    for alone, together in zip([pipeline.run(frame) for frame in frames], pipeline.run(frames), strict=True):
        np.testing.assert_array_equal(alone["detector"].instances, together["detector"].instances)
        np.testing.assert_allclose(
            alone["detector"].detections.scores, together["detector"].detections.scores, atol=1e-3
        )


def test_options_choose_among_its_objects(pipeline, frames):
    everything = pipeline.run(frames[0])["detector"].detections
    pipeline.configure("detector", max_detections=1)
    assert len(pipeline.run(frames[0])["detector"].detections) == 1
    between = float(everything.scores[:2].mean())
    pipeline.configure("detector", threshold=between, max_detections=30)
    assert len(pipeline.run(frames[0])["detector"].detections) == 1
    pipeline.configure("detector", threshold=1.0)
    nothing = pipeline.run(frames[0])["detector"]
    assert len(nothing.detections) == 0
    assert not nothing.mask.any()


@pytest.mark.parametrize("post", ["bilateral", "crf"])
def test_masks_can_be_refined(pipeline, frames, post):
    pipeline.configure("detector", post=post)
    got = pipeline.run(frames[0])["detector"]
    assert got.instances.max() <= len(got.detections)


def test_classes_are_the_labels(tmp_path, frames):
    file = make_detector(tmp_path / "classes.safetensors", classes=CLASSES)
    got = load_pipeline(("detector",), device="cpu", head_weights=file).run(frames[0])["detector"]
    assert set(got.detections.labels) <= set(CLASSES)
    assert len(got.detections) > 1


def test_ids_last_and_limits_hold_over_a_video(pipeline, frames):
    tracker = VideoTracker(pipeline, options=VideoOptions(max_objects=2, min_score=0.1))
    first, second = (tracker(frames[0])["detector"] for _ in range(2))
    assert len(first.detections) == 2
    assert first.detections.ids == second.detections.ids == ("1", "2")
    tracker.options = VideoOptions(min_score=1.0)
    assert len(tracker(frames[0])["detector"].detections) == 0


def test_patch_masks_are_not_carried_over(pipeline, frames):
    with pytest.raises(ParameterError, match="only discovery methods on a backbone follow a video, not 'detector'"):
        pipeline.run(frames[0], memories={"detector": Memory()})


def test_features_that_are_no_numbers_are_an_error(pipeline, file):
    head = load_head(file)
    keys = torch.full((1, 6, 160), torch.nan)
    features = Features(keys, keys, keys, torch.zeros(1, 5, 6), (2, 3))
    with pytest.raises(InputError, match="NaN"):
        decode(head.see(features))


def test_a_detector_of_other_weights_is_refused(tmp_path):
    file = make_detector(tmp_path / "other.safetensors", of="0" * 64)
    with pytest.raises(WeightsError, match="trained on other weights of tiny"):
        load_pipeline(("detector",), device="cpu", head_weights=file)


def test_another_backbone_s_weights_are_refused(tmp_path, file):
    state = load_file(find_entry("tiny").path)
    save_file({key: value * 1.01 for key, value in state.items()}, tmp_path / "retrained.safetensors")
    with pytest.raises(WeightsError, match="trained on other weights of tiny"):
        load_pipeline(("detector",), device="cpu", head_weights=file, weights=tmp_path / "retrained.safetensors")


def test_a_head_of_found_is_no_detector():
    with pytest.raises(WeightsError, match="is not a token detector: its metadata says format None"):
        load_pipeline(("detector",), device="cpu", head_weights=find_entry("tiny_found_head").path)


@pytest.mark.parametrize("method", ["found", "maskclip"])
def test_one_file_cannot_be_two_heads(file, method):
    with pytest.raises(ParameterError, match=rf"FOUND's head, which {method} read, and of the detector"):
        PipelineConfig(methods=("detector", method), head_weights=file)
    PipelineConfig(methods=("detector", "maskcut"), head_weights=file)
    PipelineConfig(methods=("detector", method))


@pytest.mark.parametrize(("name", "head"), [("alone", True), ("one", False), ("one", True), ("two", False)])
def test_an_exported_backbone_finds_the_same(file, frames, exported, name, head):
    """With a detector beside it, in its file, or both."""
    heads = {"alone": file, "one": file, "two": exported / "classes.safetensors"}
    eager = load_pipeline(("detector",), device="cpu", head_weights=heads[name])
    eager.backbone.bfloat16 = False
    given = {"head_weights": file} if head else {}
    other = load_pipeline(("detector",), device="cpu", weights=exported / f"{name}.onnx", **given)
    for frame in frames[:2]:
        wanted, found = eager.run(frame)["detector"], other.run(frame)["detector"]
        np.testing.assert_allclose(found.detections.scores, wanted.detections.scores, atol=1e-4)
        assert found.detections.labels == wanted.detections.labels
        assert (found.instances != wanted.instances).mean() < 0.01


def test_exported_detectors_are_batched_and_shared(frames, exported):
    config = PipelineConfig(methods=("detector", "lost"), device="cpu", weights=exported / "two.onnx")
    alone, shared = build_pipeline(config), build_pipeline(config, SharedLoader().make_client("left"))
    for one, other in zip(alone.run(frames), shared.run(frames), strict=True):
        np.testing.assert_array_equal(one["detector"].instances, other["detector"].instances)
    assert list_labels(config, "detector") == CLASSES
    assert list_labels(config, "lost") == ("object",)


def test_an_exported_backbone_alone_has_no_detector(exported, monkeypatch):
    monkeypatch.setattr("objloc_ros.methods.detector_file.REGISTRY", {})
    with pytest.raises(WeightsError, match="there is no detector for tiny"):
        load_pipeline(("detector",), device="cpu", weights=exported / "alone.onnx")


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("head", json.dumps({"format": "another"}), "is not a token detector: its metadata says format 'another'"),
        ("head", "[]", r"has head \[\], expected texts"),
        ("answers", json.dumps({"boxes": [4]}), "expected channels and scale"),
        ("answers", json.dumps({"boxes": [4, -1]}), "expected whole numbers"),
        ("answers", "{}", "maps images, keys, .*boxes.*, expected images to keys, queries, values, cls_attention$"),
    ],
)
def test_damaged_metadata_of_an_exported_detector_is_named(exported, tmp_path, key, value, named):
    model = onnx.load(exported / "one.onnx")
    (entry,) = [entry for entry in model.metadata_props if entry.key == f"objloc.{key}"]
    entry.value = value
    onnx.save(model, tmp_path / "damaged.onnx")
    with pytest.raises(WeightsError, match=named):
        load_pipeline(("detector",), device="cpu", weights=tmp_path / "damaged.onnx")


def test_cameras_share_one_detector(file):
    config = PipelineConfig(methods=("detector",), device="cpu", head_weights=file)
    shared = SharedLoader()
    left, right = (build_pipeline(config, shared.make_client(name)) for name in ("left", "right"))
    assert left._heads is right._heads
    with pytest.raises(WeightsError, match="no weights file"):
        build_pipeline(replace(config, head_weights=file.with_name("absent")), shared.make_client("third"))
