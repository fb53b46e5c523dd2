"""What each kind of result offers to nodes, files and pictures, without anybody asking for its kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from objloc_ros.engine.results import HeadResult, InstanceResult, SaliencyResult, SemanticResult
from objloc_ros.io.drawing import label_overlay, overlay
from objloc_ros.ops.geometry import Geometry
from objloc_ros.types import UNLABELLED, Detections, LabelSet

U = UNLABELLED
GEOMETRY = Geometry((4, 6), (2, 3), (2, 3), 1)
"""Every pixel of what is processed stands for 2x2 of the image."""


def double(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    return np.array(rows).repeat(2, axis=0).repeat(2, axis=1).tolist()


def detections(*labels: str) -> Detections:
    boxes = np.array([[0, 0, 4, 2], [4, 2, 6, 4]], np.float32)[: len(labels)]
    return Detections(boxes, np.array([0.9, 0.4], np.float32)[: len(labels)], labels)


MASK = np.array([[1, 1, 0], [0, 0, 1]], bool)
OBJECTS = detections("object", "object")
SALIENCY = SaliencyResult(OBJECTS, GEOMETRY, MASK, np.full((2, 3), 0.6, np.float32), np.ones((2, 3), np.float32))
INSTANCES = InstanceResult(OBJECTS, GEOMETRY, MASK, np.array([[1, 1, 0], [0, 0, 2]], np.uint16))
CLASSES = SemanticResult(
    detections("cat", "dog"),
    GEOMETRY,
    MASK,
    LabelSet(("dog", "cat"), (0, 7)),
    np.array([[7, 7, U], [U, U, 0]], np.uint8),
    np.where(MASK, np.float32(0.8), np.float32(0)),
)


@pytest.mark.parametrize(
    ("result", "maps"),
    [
        (HeadResult(OBJECTS, GEOMETRY, MASK), {"mask": [[1, 1, 0], [0, 0, 1]]}),
        (SALIENCY, {"mask": [[1, 1, 0], [0, 0, 1]], "confidence": [[153, 153, 153]] * 2}),
        (INSTANCES, {"instance_mask": [[1, 1, 0], [0, 0, 2]]}),
        (CLASSES, {"mask": [[7, 7, U], [U, U, 0]], "confidence": [[204, 204, 0], [0, 0, 204]]}),
    ],
)
def test_maps_have_the_names_of_topics_and_the_size_of_the_image(
    result: HeadResult, maps: dict[str, list[list[int]]]
) -> None:
    made = dict(result.maps())
    assert {name: pixels.tolist() for name, pixels in made.items()} == {n: double(rows) for n, rows in maps.items()}
    assert {pixels.dtype for pixels in made.values()} == {np.dtype(np.uint16 if result is INSTANCES else np.uint8)}
    assert next(iter(made.values())).tolist() == result.label_map().tolist()


def test_every_id_of_a_mask_has_a_name_and_unlabelled_is_none_of_them() -> None:
    for result in (SALIENCY, CLASSES):
        assert result.mask_labels is not None
        names = result.mask_labels.names()
        assert set(np.unique(result.maps()["mask"]).tolist()) <= {*names, U}
        assert set(result.detections.labels) <= set(names.values())
        assert U not in names
    assert SALIENCY.mask_labels.names() == {0: "background", 1: "object"}
    assert INSTANCES.mask_labels is None


def test_no_map_is_made_before_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: SaliencyResult) -> None:
        raise AssertionError("nobody wants the saliency")

    monkeypatch.setattr(SaliencyResult, "saliency_u8", fail)
    assert SALIENCY.maps()["mask"].any()
    with pytest.raises(AssertionError, match="nobody wants"):
        SALIENCY.maps()["confidence"]


def test_files_hold_the_mask_and_what_else_there_is() -> None:
    mask = double([[255, 255, 0], [0, 0, 255]])
    made = [{name: pixels.tolist() for name, pixels in r.files().items()} for r in (SALIENCY, INSTANCES, CLASSES)]
    assert made == [
        {"mask": mask},
        {"mask": mask, "instances": double([[1, 1, 0], [0, 0, 2]])},
        {"mask": mask, "labels": double([[7, 7, U], [U, U, 0]])},
    ]


@pytest.mark.parametrize("result", [SALIENCY, INSTANCES, CLASSES])
def test_every_kind_knows_the_pixels_of_its_detections(result: HeadResult) -> None:
    assert result.instances_u16().tolist() == double([[1, 1, 0], [0, 0, 2]])


def test_only_methods_with_prompts_have_shares() -> None:
    assert [r.prompts for r in (SALIENCY, INSTANCES, CLASSES)] == [None, None, CLASSES.labels]
    assert [r.shares() for r in (SALIENCY, INSTANCES)] == [{}, {}]
    assert CLASSES.shares() == {"dog": pytest.approx(1 / 6), "cat": pytest.approx(2 / 6)}


def test_soft_maps_are_saliency_where_there_is_one() -> None:
    assert np.allclose(SALIENCY.soft_map(), 0.6)
    assert INSTANCES.soft_map().tolist() == double([[1, 1, 0], [0, 0, 1]])
    assert {r.soft_map().dtype for r in (SALIENCY, INSTANCES, CLASSES)} == {np.dtype(np.float32)}


def test_the_main_box_is_the_best_but_for_found_the_largest_region() -> None:
    logits = np.array([[-1, -1, 1], [-1, -1, 1]], np.float32)
    found = SaliencyResult(OBJECTS, GEOMETRY, MASK, SALIENCY.saliency, logits)
    assert found.main_box().tolist() == [[4, 0, 6, 4]]
    assert SaliencyResult(OBJECTS, GEOMETRY, MASK, SALIENCY.saliency, -np.ones((2, 3), np.float32)).main_box().size == 0
    assert INSTANCES.main_box().tolist() == [[0, 0, 4, 2]]
    assert InstanceResult(detections(), GEOMETRY, MASK & False, INSTANCES.instances * 0).main_box().shape == (0, 4)


def test_the_best_keep_their_ids_and_others_lose_their_pixels() -> None:
    named = INSTANCES.with_ids(("4", "2"))
    assert named.detections.ids == ("4", "2")
    best = named.best(1)
    assert best.detections.ids == ("4",)
    assert best.instances_u16().tolist() == double([[1, 1, 0], [0, 0, 0]])
    assert best.mask_u8().tolist() == double([[255, 255, 0], [0, 0, 0]])
    assert len(named.best(2, min_score=0.5).detections) == 1
    assert named.best(2) is named
    assert SALIENCY.best(1).detections.boxes.tolist() == [[0, 0, 4, 2]]
    assert np.array_equal(SALIENCY.best(1).mask_u8(), SALIENCY.mask_u8())


def test_pictures_show_masks_instances_or_labels() -> None:
    image = np.full((120, 180, 3), 90, np.uint8)
    geometry = Geometry((120, 180), (2, 3), (2, 3), 1)
    boxes = np.array([[0, 20, 120, 60], [120, 60, 180, 120]], np.float32)
    objects = Detections(boxes, OBJECTS.scores, ("object", "object"))
    found = HeadResult(objects, geometry, MASK)
    many = InstanceResult(objects, geometry, MASK, INSTANCES.instances)
    prompted = SemanticResult(objects, geometry, MASK, CLASSES.labels, CLASSES.classes, CLASSES.confidence)
    assert np.array_equal(found.draw(image), overlay(image, found.mask_u8(), objects))
    assert np.array_equal(many.draw(image), overlay(image, many.instances_u16(), objects))
    assert np.array_equal(prompted.draw(image), label_overlay(image, prompted.classes_u8(), CLASSES.labels.names()))
    written = Detections(boxes, OBJECTS.scores, ("4:", "2:"))
    assert np.array_equal(many.with_ids(("4", "2")).draw(image), overlay(image, many.instances_u16(), written))
    assert not np.array_equal(many.with_ids(("4", "2")).draw(image), many.draw(image))


def test_masks_are_whole_where_detections_overlap() -> None:
    left, right = np.array([[1, 1, 0], [1, 1, 0]], bool), np.array([[0, 1, 1], [0, 1, 1]], bool)
    instances = np.where(left, 1, 2).astype(np.uint16)
    cut = InstanceResult(OBJECTS, GEOMETRY, left | right, instances)
    assert [mask.tolist() for mask in cut.masks()] == [double(left), double(~left)]
    whole = InstanceResult(OBJECTS, GEOMETRY, left | right, instances, lambda place: (left, right)[place])
    assert [mask.tolist() for mask in whole.masks()] == [double(left), double(right)]
    assert [mask.tolist() for mask in whole.best(1).masks()] == [double(left)]
    assert [mask.tolist() for mask in whole.with_ids(("7", "8")).masks()] == [double(left), double(right)]
    assert [mask.tolist() for mask in SALIENCY.masks()] == [
        double(row) for row in (MASK & [[True], [False]], MASK & [[False], [True]])
    ]
