"""Nothing is reported in an ignored area, boxes are of what is left, and no method is drawn to what lies there."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from rcnn_making import CLUSTERS, PYRAMID, make_network

from objloc_ros.backbones.specs import SPECS
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.heads.rcnn import RcnnHead
from objloc_ros.engine.heads.selfmask import SelfMaskHead
from objloc_ros.engine.ignored import cut_objects, look_away, lower_logits
from objloc_ros.engine.pipeline import Pipeline, build_pipeline, load_pipeline
from objloc_ros.engine.results import Batch, InstanceResult, SaliencyResult, SemanticResult
from objloc_ros.engine.video_tracker import VideoTracker
from objloc_ros.errors import ParameterError
from objloc_ros.methods.rcnn import RcnnSpec
from objloc_ros.methods.selfmask import SelfMask
from objloc_ros.ops.areas import Area
from objloc_ros.ops.geometry import Geometry
from objloc_ros.types import UNLABELLED, Detections, Features

METHODS = ("found", "lost", "tokencut", "deep_spectral", "maskcut", "dino_seg", "vote", "detector")
PROMPTED = ("clip_diy", "maskclip", "clip_dinoiser")
RED = (45, 45, 135, 135)
BLUE = (210, 140, 270, 200)
AROUND_RED = "0.1,0.12 0.46,0.12 0.46,0.62 0.1,0.62"
LEFT_OF_75 = "0,0 0.234375,0 0.234375,1 0,1"
"""A third of the red disc, in an image of 320 columns."""
EVERYTHING = "0,0 1,0 1,1 0,1"


@pytest.fixture(scope="module")
def image() -> npt.NDArray[np.uint8]:
    rgb = np.random.default_rng(0).integers(100, 120, (240, 320, 3), np.uint8)
    cv2.circle(rgb, (90, 90), 45, (200, 20, 20), -1)
    cv2.circle(rgb, (240, 170), 30, (20, 40, 200), -1)
    return rgb


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    pipeline = load_pipeline((*METHODS, *PROMPTED), device="cpu")
    pipeline.set_prompts(["red object", "blue object"])
    return pipeline


@pytest.fixture(autouse=True)
def nothing_ignored(pipeline: Pipeline) -> None:
    pipeline.ignore = ""


def near(box: npt.NDArray[np.float32], other: tuple[int, ...]) -> bool:
    return bool(np.abs(box - np.array(other)).max() <= 21)  # two patches


@pytest.mark.parametrize("method", [*METHODS, *PROMPTED])
def test_what_is_ignored_is_not_found_and_something_else_is(
    method: str, pipeline: Pipeline, image: npt.NDArray[np.uint8]
) -> None:
    pipeline.ignore = AROUND_RED
    found = pipeline.run(image, (method,))[method]
    inside = Area.parse(AROUND_RED).mask((240, 320))
    (box,) = found.detections.boxes
    assert near(box, BLUE) or method == "dino_seg"  # whose attention sees a part
    assert not found.mask_u8()[inside].any()
    assert found.mask_u8().any()
    assert not np.any([mask & inside for mask in found.masks()])


@pytest.mark.parametrize("method", ["found", "maskcut", "detector", *PROMPTED])
def test_boxes_are_of_what_is_left(method: str, pipeline: Pipeline, image: npt.NDArray[np.uint8]) -> None:
    whole = pipeline.run(image, (method,))[method].detections
    assert any(near(box, RED) for box in whole.boxes)
    pipeline.ignore = LEFT_OF_75
    left = pipeline.run(image, (method,))[method].detections
    assert any(near(box, (75, *RED[1:])) and box[0] == 75 for box in left.boxes)
    assert any(near(box, BLUE) for box in left.boxes)


@pytest.mark.parametrize("method", [*METHODS, *PROMPTED])
def test_nothing_is_found_where_everything_is_ignored(
    method: str, pipeline: Pipeline, image: npt.NDArray[np.uint8]
) -> None:
    pipeline.ignore = EVERYTHING
    found = pipeline.run(image, (method,))[method]
    assert len(found.detections) == len(found.main_box()) == 0
    assert not found.mask_u8().any()


def test_maps_say_background_and_unlabelled(pipeline: Pipeline, image: npt.NDArray[np.uint8]) -> None:
    inside = Area.parse(AROUND_RED).mask((240, 320))
    pipeline.ignore = AROUND_RED
    result = pipeline.run(image, ("found", "clip_diy"))
    found, prompted = result["found"], result["clip_diy"]
    assert isinstance(found, SaliencyResult)
    assert isinstance(prompted, SemanticResult)
    assert not found.maps()["mask"][inside].any()
    assert not found.maps()["confidence"][inside].any()
    assert not found.soft_map()[inside].any()
    assert set(prompted.maps()["mask"][inside].tolist()) == {UNLABELLED}
    assert not prompted.maps()["confidence"][inside].any()


@pytest.mark.parametrize("per_region", [False, True])
@pytest.mark.parametrize("background", ["none", "prompt"])
def test_even_a_prompt_for_the_background_has_nothing_there(
    background: str, per_region: bool, pipeline: Pipeline, image: npt.NDArray[np.uint8]
) -> None:
    labels = pipeline.labels
    assert labels is not None
    pipeline.set_prompts([*labels.prompts, "background"])
    pipeline.ignore = AROUND_RED
    for method in PROMPTED:
        pipeline.configure(method, background=background, per_region=per_region)
        found = pipeline.run(image, (method,))[method]
        assert isinstance(found, SemanticResult)
        inside = Area.parse(AROUND_RED).mask(found.geometry.resized)
        assert set(found.classes[inside].tolist()) == {UNLABELLED}
        assert (found.classes[~inside] != UNLABELLED).any()
        pipeline.configure(method, background="found", per_region=False)
    pipeline.set_prompts(labels.prompts)


def test_it_holds_for_every_size_and_every_image_of_a_batch(pipeline: Pipeline, image: npt.NDArray[np.uint8]) -> None:
    pipeline.ignore = AROUND_RED
    for size in ((640, 480), (200, 150)):
        large = cv2.resize(image, size)
        for result in pipeline.run([large, large], ("found", "maskcut")):
            for found in result.heads.values():
                (box,) = found.detections.boxes * 320 / size[0]
                assert near(box, BLUE)


def test_objects_of_a_video_are_not_carried_into_it(pipeline: Pipeline, image: npt.NDArray[np.uint8]) -> None:
    tracker = VideoTracker(pipeline, ("maskcut",))
    for _ in range(3):
        tracked = tracker(image)["maskcut"].detections
    assert len(tracked) == 2
    pipeline.ignore = AROUND_RED
    (box,) = tracker(image)["maskcut"].detections.boxes
    assert near(box, BLUE)


def test_a_picture_shows_what_is_ignored(pipeline: Pipeline, image: npt.NDArray[np.uint8]) -> None:
    inside = Area.parse(AROUND_RED).mask((240, 320))
    for method in ("found", "maskcut", "clip_diy"):
        pipeline.ignore = AROUND_RED
        drawn = pipeline.run(image, (method,))[method].draw(image)
        assert drawn[inside].mean() < 0.7 * image[inside].mean()
        assert np.array_equal(drawn[220:, :100], image[220:, :100])


def test_texts_that_are_no_polygons_change_nothing(pipeline: Pipeline) -> None:
    pipeline.ignore = AROUND_RED
    with pytest.raises(ParameterError, match="ignore: a polygon needs at least 3 corners, got 2"):
        pipeline.ignore = "0,0 1,1"
    assert pipeline.ignore == AROUND_RED
    with pytest.raises(ParameterError, match="ignore: a corner must lie in"):
        PipelineConfig(methods=("found",), ignore="0,0 2,0 1,1")


def test_it_is_part_of_a_configuration() -> None:
    config = PipelineConfig(methods=("found",), device="cpu", ignore=AROUND_RED)
    assert build_pipeline(config).ignore == AROUND_RED
    assert config.about("found")["ignore"] == AROUND_RED
    assert "ignore" not in PipelineConfig(methods=("found",)).about("found")


def test_patches_look_like_their_nearest_neighbours_outside() -> None:
    values = torch.arange(12.0).reshape(2, 6, 1)
    attention = torch.arange(12.0).reshape(2, 1, 6)
    features = Features(values, values + 100, values + 200, attention, (2, 3))
    one = np.array([[0, 0, 0], [1, 1, 1]], bool)
    two = np.array([[0, 1, 1], [0, 0, 1]], bool)
    away = look_away(features, [one, two])
    assert away.keys[0, :, 0].tolist() == [0, 1, 2, 0, 1, 2]
    assert away.keys[1, :, 0].tolist()[:2] in ([6, 6], [6, 10])
    assert away.keys[1, 5, 0] == 10
    assert torch.equal(away.queries, away.keys + 100)
    assert torch.equal(away.values, away.keys + 200)
    assert torch.equal(away.cls_attention, away.keys.mT)
    assert torch.equal(look_away(features, [one | True, two]).keys[0], features.keys[0])


GEOMETRY = Geometry((4, 8), (2, 4), (2, 4), 1)
IGNORED = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], bool)


def make_instances(*rows: list[list[int]]) -> InstanceResult:
    masks = [np.array(mask, bool) for mask in rows]
    instances = np.zeros((2, 4), np.uint16)
    boxes = []
    for rank, mask in reversed(list(enumerate(masks, start=1))):
        instances[mask] = rank
    for mask in masks:
        ys, xs = np.nonzero(mask) if mask.any() else (np.array([0]), np.array([0]))
        boxes.append([2 * xs.min(), 2 * ys.min(), 2 * xs.max() + 2, 2 * ys.max() + 2])
    scores = np.linspace(0.9, 0.5, len(masks)).astype(np.float32)
    labels = tuple("abcdef"[: len(masks)])
    detections = Detections(np.array(boxes, np.float32), scores, labels)
    return InstanceResult(detections, GEOMETRY, instances > 0, instances, masks.__getitem__)


def test_a_detectors_object_most_of_which_is_ignored_is_dropped_and_what_it_covered_appears() -> None:
    result = make_instances(
        [[1, 1, 1, 0], [0, 0, 0, 0]],  # two thirds inside
        [[0, 1, 1, 1], [0, 0, 0, 0]],  # one third
        [[0, 0, 0, 0], [0, 0, 0, 1]],  # outside
        [[0, 0, 0, 0], [0, 0, 0, 0]],  # no pixel: its box, which is inside
    )
    cut = cut_objects(result, IGNORED, min_left=0.5)
    assert cut.detections.labels == ("b", "c")
    assert cut.detections.boxes.tolist() == [[4, 0, 8, 2], [6, 2, 8, 4]]
    assert cut.instances.tolist() == [[0, 0, 1, 1], [0, 0, 0, 2]]
    assert [mask[::2, ::2].tolist() for mask in cut.masks()] == [
        [[0, 0, 1, 1], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 1]],
    ]
    assert cut_objects(result, IGNORED).detections.labels == ("a", "b", "c")
    assert cut_objects(result, IGNORED).best(1).instances.tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]


def test_without_instances_of_their_own_masks_are_those_that_are_seen() -> None:
    result = make_instances([[1, 1, 1, 0], [0, 0, 0, 0]])
    plain = InstanceResult(result.detections, GEOMETRY, result.mask, result.instances)
    assert cut_objects(plain, IGNORED).instances.tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]


def test_a_batch_without_an_area_ignores_nothing() -> None:
    assert Batch([], []).ignored(GEOMETRY) is None
    logits = np.ones((2, 4), np.float32)
    assert lower_logits(logits, GEOMETRY, Area()) is logits
    area = Area.parse("0,0 0.5,0 0.5,1 0,1")
    assert np.array_equal(Batch([], [], area=area).ignored(GEOMETRY), IGNORED)
    assert np.isneginf(lower_logits(logits, GEOMETRY, area)).tolist() == IGNORED.tolist()
    finer = np.ones((8, 16), np.float32)  # of 6 x 14 pixels, padded
    lowered = np.isneginf(lower_logits(finer, Geometry((6, 14), (6, 14), (8, 16), 4), area))
    assert lowered[:6, :7].all()
    assert lowered.sum() == 6 * 7


@pytest.mark.parametrize("spec", [PYRAMID, CLUSTERS], ids=["masks", "boxes alone"])
def test_networks_with_masks_or_boxes_lose_what_lies_mostly_inside(spec: RcnnSpec) -> None:
    """Of random numbers, so that there is something everywhere."""
    pipeline = Pipeline(None, {"rcnn": RcnnHead(make_network(spec), 32)}, device=torch.device("cpu"))
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    whole = pipeline.run(noise)["rcnn"]
    pipeline.ignore = "0,0 0.5,0 0.5,1 0,1"
    inside = Area.parse(pipeline.ignore).mask((40, 60))
    left, _, right, _ = whole.detections.boxes.T
    shares = (right - np.clip(30, left, right)) / (right - left)
    assert shares.min() < 0.4
    assert shares.max() > 0.6
    cut = pipeline.run(noise)["rcnn"]
    assert (shares > 0.6).sum() <= len(cut.detections) <= (shares > 0.4).sum()
    assert cut.detections.boxes[:, 0].min() >= 30
    assert not any((mask & inside).any() for mask in cut.masks())
    assert not (cut.mask & inside).any()


def test_selfmask_is_cut_as_found_is(image: npt.NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    head = SelfMaskHead(SelfMask(SPECS["tiny"], queries=2, layers=1).eval(), torch.device("cpu"))
    pipeline = Pipeline(None, {"selfmask": head}, device=torch.device("cpu"))
    pipeline.configure("selfmask", threshold=0.0)
    assert pipeline.run(image)["selfmask"].mask.all()
    pipeline.ignore = LEFT_OF_75
    found = pipeline.run(image)["selfmask"]
    inside = Area.parse(LEFT_OF_75).mask(found.mask.shape)
    assert np.array_equal(found.mask, ~inside)
