"""R-CNNs as a head: masks pasted into images, options, names of classes, and odd images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rcnn_making import CLUSTERS, PYRAMID, make_network, save_checkpoint

from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.heads.rcnn import RcnnHead, paste_mask, paste_objects
from objloc_ros.engine.labels import list_labels
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.results import InstanceResult
from objloc_ros.engine.video_tracker import VideoOptions, VideoTracker
from objloc_ros.errors import ParameterError
from objloc_ros.methods.options import RcnnOptions
from objloc_ros.methods.rcnn import RcnnObjects
from objloc_ros.types import Size

SHORT_SIDE = 32


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return make_pipeline(RcnnHead(make_network(PYRAMID), SHORT_SIDE))


def make_pipeline(head: RcnnHead) -> Pipeline:
    return Pipeline(None, {"rcnn": head}, device=torch.device("cpu"))


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def paste(boxes: list[list[float]], masks: torch.Tensor | None, source: Size, size: Size) -> InstanceResult:
    tensor, count = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), len(boxes)
    objects = RcnnObjects(tensor, torch.full((count,), 0.5), torch.zeros(count, dtype=torch.int64), masks)
    return paste_objects(objects, ("object",), source, size)


def paste_slowly(mask: torch.Tensor, box: list[float], size: Size) -> np.ndarray:
    """Sample a mask at the centre of each pixel of an image, bilinearly, zeros around it."""
    cells = np.pad(mask.numpy(), 1)
    out = np.zeros(size, bool)
    for row, column in np.ndindex(*size):
        x = (column + 0.5 - box[0]) / (box[2] - box[0]) * mask.shape[1] + 0.5  # in cells of the padded mask
        y = (row + 0.5 - box[1]) / (box[3] - box[1]) * mask.shape[0] + 0.5
        if not (0 <= x < mask.shape[1] + 1 and 0 <= y < mask.shape[0] + 1):
            continue
        i, j, b, a = int(y), int(x), y - int(y), x - int(x)
        value = (1 - b) * ((1 - a) * cells[i, j] + a * cells[i, j + 1])
        value += b * ((1 - a) * cells[i + 1, j] + a * cells[i + 1, j + 1])
        out[row, column] = value >= 0.5
    return out


@pytest.mark.parametrize(
    "box", [[3.3, 2.7, 25.1, 30.9], [0.0, 0.0, 40.0, 36.0], [10.2, 10.4, 11.1, 11.0], [-9.0, 20.0, 55.0, 90.0]]
)
def test_a_mask_is_sampled_at_the_centres_of_pixels(box: list[float]) -> None:
    mask = torch.rand(28, 28, generator=torch.Generator().manual_seed(1))
    (rows, columns), found = paste_mask(mask, np.array(box, np.float32), (36, 40))
    whole = np.zeros((36, 40), bool)
    whole[rows, columns] = found
    expected = paste_slowly(mask, box, (36, 40))
    assert (whole != expected).mean() < 0.005  # values at the threshold itself
    assert expected.any() or box[2] - box[0] < 1


def test_boxes_and_masks_reach_the_images_own_pixels() -> None:
    result = paste([[20, 10, 40, 30]], torch.ones(1, 28, 28), (20, 30), (40, 60))
    assert result.detections.boxes.tolist() == [[10, 5, 20, 15]]
    assert result.geometry.source == result.geometry.resized == (20, 30)
    rows, columns = np.nonzero(result.instances_u16())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 14, 10, 19)


def test_the_better_object_stays_on_top_and_the_other_is_still_known_whole() -> None:
    result = paste([[0, 0, 8, 8], [4, 4, 12, 12]], torch.ones(2, 28, 28), (16, 16), (16, 16))
    assert result.instances[6, 6] == 1
    assert result.instances[10, 10] == 2
    first, second = result.masks()
    assert first.sum() == second.sum() == 64
    assert (result.instances == 2).sum() == 64 - 16


def test_a_network_without_masks_has_its_boxes_for_masks() -> None:
    result = paste([[2, 3, 9, 7]], None, (16, 16), (16, 16))
    assert result.mask.sum() == 7 * 4
    assert result.mask[3:7, 2:9].all()


def test_boxes_without_a_side_are_left_out() -> None:
    result = paste([[5, 5, 5, 9], [1, 1, 4, 4], [20, 3, 30, 9]], torch.ones(3, 28, 28), (16, 16), (16, 16))
    assert result.detections.boxes.tolist() == [[1, 1, 4, 4]]  # the last lies beside the image
    assert set(np.unique(result.instances)) == {0, 1}
    assert len(paste([], torch.ones(0, 28, 28), (16, 16), (16, 16)).detections) == 0


def test_a_result_of_the_whole_way(pipeline: Pipeline) -> None:
    result = pipeline.run(picture())["rcnn"]
    assert isinstance(result, InstanceResult)
    assert 0 < len(result.detections) <= 100
    assert set(result.detections.labels) == {"object"}
    assert result.instances_u16().shape == (40, 60)
    assert len(list(result.masks())) == len(result.detections)
    assert set(pipeline.run(picture()).timings_ms) == {"rcnn"}


def test_options_choose_among_the_detections(pipeline: Pipeline) -> None:
    scores = pipeline.run(picture())["rcnn"].detections.scores
    try:
        middle = float(np.median(scores))
        pipeline.configure("rcnn", threshold=middle)
        assert pipeline.run(picture())["rcnn"].detections.scores.tolist() == [s for s in scores.tolist() if s > middle]
        pipeline.configure("rcnn", threshold=None, max_detections=3)
        assert pipeline.run(picture())["rcnn"].detections.scores.tolist() == scores[:3].tolist()
        pipeline.configure("rcnn", max_detections=1000, nms_iou=1.0)
        assert len(pipeline.run(picture())["rcnn"].detections) > len(scores)
        with pytest.raises(ParameterError, match=r"nms_iou must lie in \[0, 1\]"):
            pipeline.configure("rcnn", nms_iou=1.5)
    finally:
        pipeline.configure("rcnn", **vars(RcnnOptions()))


@pytest.mark.parametrize("size", [(1, 1), (1, 80), (90, 2)])
def test_the_smallest_images_are_seen(pipeline: Pipeline, size: Size) -> None:
    result = pipeline.run(picture(*size))["rcnn"]
    assert result.mask_u8().shape == size
    boxes = result.detections.boxes
    assert not len(boxes) or (boxes.min() >= 0 and boxes[:, 2].max() <= size[1] and boxes[:, 3].max() <= size[0])


def test_images_of_different_sizes_are_each_seen_alone(pipeline: Pipeline) -> None:
    images = [picture(40, 60), picture(60, 40)]
    together = pipeline.run(images)
    for image, result in zip(images, together, strict=True):
        assert np.array_equal(result["rcnn"].detections.boxes, pipeline.run(image)["rcnn"].detections.boxes)


def test_objects_of_a_video_get_ids_and_limits(pipeline: Pipeline) -> None:
    tracker = VideoTracker(pipeline, options=VideoOptions(max_objects=2))
    first, second = (tracker(picture())["rcnn"].detections for _ in range(2))
    assert first.ids == second.ids == ("1", "2")


def test_a_checkpoint_of_clusters_names_them(tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path / "od.pth", CLUSTERS)
    config = PipelineConfig(methods=("rcnn",), weights=file, device="cpu", short_side=SHORT_SIDE)
    assert list_labels(config, "rcnn") == tuple(f"cluster_{number}" for number in range(20))
    pipeline = build_pipeline(config)
    pipeline.configure("rcnn", max_detections=5)
    detections = pipeline.run(picture())["rcnn"].detections
    assert 0 < len(detections) <= 5
    assert set(detections.labels) <= set(list_labels(config, "rcnn"))
    assert pipeline.short_side("rcnn") == SHORT_SIDE
    assert config.name_network("rcnn") == "od"
