"""Methods whose own network looks at the images: no backbone is loaded for them, and files are not mistaken."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from objloc_ros.engine import config as configs
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.heads import image_methods
from objloc_ros.engine.heads.image_methods import ImageMethod
from objloc_ros.engine.loader import Loader, SharedLoader
from objloc_ros.engine.pipeline import build_pipeline
from objloc_ros.engine.results import ImageHead, InstanceResult
from objloc_ros.engine.video_tracker import VideoTracker
from objloc_ros.errors import ParameterError
from objloc_ros.ops.geometry import plan
from objloc_ros.options import Options
from objloc_ros.types import Detections, size_of


@dataclass(frozen=True)
class HalfOptions(Options):
    """None."""


class HalfHead(ImageHead):
    """Finds the upper half of every image, at a size of its own."""

    default_options = HalfOptions()

    def __init__(self, name, path, short_side, device):
        self.source, self.short_side, self.device = (name, path), short_side or 8, device

    def __call__(self, batch, options):
        return [self._find(image) for image in batch.images]

    def _find(self, image):
        geometry = plan(size_of(image), patch=1, short_side=self.short_side)
        instances = np.zeros(geometry.resized, np.uint16)
        instances[: geometry.resized[0] // 2] = 1
        height, width = size_of(image)
        boxes = np.array([[0, 0, width, height / 2]], np.float32)
        detections = Detections.class_free(boxes, np.array([0.5], np.float32))
        return InstanceResult(detections, geometry, instances > 0, instances)


@pytest.fixture(autouse=True)
def half(monkeypatch):
    method = ImageMethod(HalfOptions, "half_network", "discovery", HalfHead)
    monkeypatch.setitem(image_methods.IMAGE_METHODS, "half", method)
    monkeypatch.setitem(configs.HEADS, "half", HalfOptions)


class NoBackbone(Loader):
    def load_backbone(self, config):
        raise AssertionError("a backbone was loaded")


def picture(height=24, width=32):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_no_backbone_is_loaded_and_the_result_has_its_own_geometry() -> None:
    pipeline = build_pipeline(PipelineConfig(methods=("half",), device="cpu"), NoBackbone())
    results = pipeline.run([picture(), picture(50, 40)])
    assert [result["half"].geometry.resized for result in results] == [(8, 11), (10, 8)]
    assert results[0]["half"].label_map().shape == (24, 32)
    assert set(results[0].timings_ms) == {"half"}
    assert (pipeline.device, pipeline.short_side("half")) == ("cpu", 8)
    with pytest.raises(ParameterError, match="half look at images with networks of their own, not a backbone"):
        _ = pipeline.backbone


def test_beside_a_method_on_the_backbone_both_find_what_they_find_alone() -> None:
    together = build_pipeline(PipelineConfig(methods=("half", "lost"), device="cpu")).run(picture(64, 96))
    for method in ("half", "lost"):
        alone = build_pipeline(PipelineConfig(methods=(method,), device="cpu")).run(picture(64, 96))
        assert np.array_equal(together[method].label_map(), alone[method].label_map())


def test_size_name_and_file_reach_the_network(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    heads = Loader().load_heads(
        PipelineConfig(methods=("half",), device="cpu", weights=file, network="x", short_side=5)
    )
    assert (heads["half"].source, heads["half"].short_side) == (("x", file), 5)  # type: ignore[attr-defined]
    heads = Loader().load_heads(PipelineConfig(methods=("half",), device="cpu"))
    assert heads["half"].source == ("half_network", None)  # type: ignore[attr-defined]


def test_shared_heads_are_one_only_for_equal_files_and_sizes(tmp_path: Path) -> None:
    shared = SharedLoader(threads=1)

    def load(**fields):
        return shared.load_heads(PipelineConfig(methods=("half",), device="cpu", **fields))

    first = load()
    assert load() is first
    assert load(weights=tmp_path / "a") is not first
    assert load(short_side=5) is not first
    assert load(network="x") is not first


def test_objects_get_ids_but_nothing_is_carried_over() -> None:
    tracker = VideoTracker(build_pipeline(PipelineConfig(methods=("half",), device="cpu")))
    frames = [tracker(picture())["half"].detections.ids for _ in range(3)]
    assert frames == [("1",)] * 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"methods": ("half", "lost"), "weights": Path("x")}, "half's network and of the backbone that lost read"),
        ({"methods": ("lost",), "network": "x"}, r"network is for methods that look at images themselves \(.*half\)"),
    ],
)
def test_files_and_names_are_not_mistaken(fields, message) -> None:
    with pytest.raises(ParameterError, match=message):
        PipelineConfig(**fields)


def test_results_name_the_network() -> None:
    for fields, name in (
        ({}, "half_network"),
        ({"network": "x"}, "x"),
        ({"weights": Path("/a/cutler.pth")}, "cutler"),
        ({"network": "x", "weights": Path("/a/cutler.pth")}, "x"),
    ):
        config = PipelineConfig(methods=("half",), device="cpu", **fields)  # type: ignore[arg-type]
        assert config.about("half")["backbone"] == name
