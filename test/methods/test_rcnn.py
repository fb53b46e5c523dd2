"""R-CNNs: sizes, levels, classes and the end of the pass, on small networks and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rcnn_making import CASCADE, CLUSTERS, PYRAMID, make_network

from objloc_ros.methods.rcnn import (
    PIXEL_MEAN,
    Rcnn,
    RcnnSpec,
    Regions,
    choose_levels,
    choose_size,
    pool_regions,
    prepare_image,
    run_cascade,
    select_objects,
)
from objloc_ros.methods.region_proposals import ProposalGenerator, make_anchors

CHOICE = {"threshold": 0.0, "nms_iou": 0.5, "limit": 100}


@pytest.fixture(scope="module", params=[PYRAMID, CASCADE, CLUSTERS], ids=["mask", "cascade", "clusters"])
def network(request: pytest.FixtureRequest) -> Rcnn:
    return make_network(request.param)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("source", "short_side", "expected"),
    [
        ((480, 640), 800, (800, 1067)),  # enlarged
        ((375, 500), 800, (800, 1067)),
        ((1080, 1920), 800, (750, 1333)),  # the longer side decides
        ((2000, 100), 800, (1333, 67)),
        ((800, 1333), 800, (800, 1333)),
        ((480, 640), 240, (240, 320)),
        ((100, 1000), 240, (40, 400)),
        ((1, 1), 800, (800, 800)),
        ((1, 3000), 800, (1, 1333)),
    ],
)
def test_the_shorter_side_becomes_800_unless_the_longer_one_exceeds_1333(source, short_side, expected) -> None:
    assert choose_size(source, short_side) == expected


def test_an_image_is_normalised_by_bytes_and_padded_by_zeros() -> None:
    image = np.full((4, 6, 3), 255, np.uint8)
    prepared = prepare_image(image, (8, 12), 32)
    assert prepared.shape == (1, 3, 32, 32)
    assert prepared[0, 0, 7, 11].item() == pytest.approx((255 - PIXEL_MEAN[0]) / 58.395)
    assert not prepared[0, :, 8:].any()
    assert not prepared[0, :, :, 12:].any()


def test_resizing_keeps_a_ramp() -> None:
    ramp = np.broadcast_to(np.arange(0, 250, 10, dtype=np.uint8)[None, :, None], (25, 25, 3)).copy()
    halved = prepare_image(ramp, (25, 5), 1)[0, 0, 12] * 58.395 + PIXEL_MEAN[0]
    assert halved[1:-1].tolist() == pytest.approx([70, 120, 170], abs=1)  # means of 5 columns, not samples


@pytest.mark.parametrize(
    ("side", "level"), [(0, 0), (111, 0), (112, 1), (223, 1), (224, 2), (447, 2), (448, 3), (4000, 3)]
)
def test_a_box_belongs_to_the_level_of_its_size(side: float, level: int) -> None:
    assert choose_levels(torch.tensor([[5.0, 5, 5 + side, 5 + side]])).tolist() == [level]


def test_regions_are_pooled_from_their_own_level() -> None:
    levels = [torch.full((1, 2, 64 >> i, 64 >> i), float(i)) for i in range(4)]
    boxes = torch.tensor([[40.0, 40, 60, 60], [8, 8, 240, 240]])
    assert pool_regions(levels, boxes, 7).mean((1, 2, 3)).tolist() == [0, 2]
    assert pool_regions(levels, boxes[:0], 7).shape == (0, 2, 7, 7)


def test_anchors_lie_around_the_corners_of_cells_and_are_not_rounded() -> None:
    anchors = make_anchors((1, 2), 16, (32,))
    half = 16 * 2**0.5, 16 / 2**0.5  # halves of the longer and the shorter side
    first = [[-half[0], -half[1], half[0], half[1]], [-16, -16, 16, 16], [-half[1], -half[0], half[1], half[0]]]
    expected = torch.tensor(first + [[x1 + 16, y1, x2 + 16, y2] for x1, y1, x2, y2 in first])
    torch.testing.assert_close(anchors, expected)


def test_proposals_inside_the_image_only() -> None:
    torch.manual_seed(0)
    generator = ProposalGenerator(8, (16,), ((32, 64),), nms_iou=0.7, best=50)
    proposals = generator([torch.randn(1, 8, 5, 6)], (70, 90))
    assert 0 < len(proposals) <= 50
    assert proposals.min() >= 0
    assert proposals[:, 2].max() <= 90
    assert proposals[:, 3].max() <= 70


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_no_proposal(value: float) -> None:
    generator = ProposalGenerator(8, (16,), ((32,),), nms_iou=0.7, best=50)
    assert generator([torch.full((1, 8, 2, 2), value)], (32, 32)).shape == (0, 4)


def test_an_image_without_proposals_has_no_objects(network: Rcnn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.proposal_generator, "forward", lambda levels, size: torch.zeros(0, 4))
    objects = network.detect(picture(32, 40), (32, 40), **CHOICE)
    assert objects.boxes.shape == (0, 4)
    assert objects.scores.shape == objects.classes.shape == (0,)
    assert objects.masks is None or objects.masks.shape == (0, 28, 28)


@pytest.mark.parametrize("size", [(20, 30), (1, 1), (1, 90)])
def test_objects_lie_in_the_image_best_first(network: Rcnn, size: tuple[int, int]) -> None:
    objects = network.detect(picture(20, 30), size, threshold=0.0, nms_iou=0.5, limit=9)
    assert len(objects.boxes) <= 9
    assert objects.scores.tolist() == sorted(objects.scores.tolist(), reverse=True)
    assert not len(objects.boxes) or (objects.boxes.min() >= 0 and objects.boxes[:, 2].max() <= size[1])
    assert set(objects.classes.tolist()) <= set(range(network.spec.classes))
    assert (objects.masks is None) == (not network.spec.masks)


def test_the_pass_is_deterministic(network: Rcnn) -> None:
    first, again = (network.detect(picture(30, 40), (18, 24), **CHOICE) for _ in range(2))
    assert torch.equal(first.boxes, again.boxes)
    assert torch.equal(first.scores, again.scores)


def regions(scores: list[list[float]], boxes: list[list[float]]) -> Regions:
    return Regions(torch.tensor(scores), torch.tensor(boxes, dtype=torch.float32))


def test_a_score_at_the_threshold_is_none() -> None:
    two = regions([[0.5, 0.5], [0.6, 0.4]], [[0, 0, 9, 9], [20, 20, 29, 29]])
    boxes, scores, _ = select_objects(two, (50, 50), threshold=0.5, nms_iou=0.5, limit=9)
    assert boxes.tolist() == [[20, 20, 29, 29]]
    assert scores.tolist() == pytest.approx([0.6])


def test_objects_of_different_classes_may_share_a_place() -> None:
    one_place = regions([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2]], [[0, 0, 9, 9], [0, 0, 9, 9]])
    _, scores, classes = select_objects(one_place, (50, 50), threshold=0.3, nms_iou=0.5, limit=9)
    assert (classes.tolist(), scores.tolist()) == ([0, 1], pytest.approx([0.7, 0.6]))
    alone = select_objects(one_place, (50, 50), threshold=0.1, nms_iou=0.5, limit=9)
    assert alone[2].tolist() == [0, 1]  # of each class the better one


def test_a_class_has_its_own_box_where_the_network_says_so() -> None:
    own = regions([[0.7, 0.6, 0.0]], [[0, 0, 9, 9, 20, 20, 80, 29]])
    boxes, _, classes = select_objects(own, (50, 50), threshold=0.3, nms_iou=0.5, limit=9)
    assert classes.tolist() == [0, 1]
    assert boxes.tolist() == [[0, 0, 9, 9], [20, 20, 50, 29]]  # clipped


def test_regions_that_are_not_finite_are_left_out() -> None:
    broken = regions([[0.9, 0.1], [torch.nan, 0.5], [0.8, 0.2]], [[0, 0, torch.inf, 9], [0, 0, 9, 9], [20, 20, 29, 29]])
    boxes, _, _ = select_objects(broken, (50, 50), threshold=0, nms_iou=0.5, limit=9)
    assert [20, 20, 29, 29] in boxes.tolist()
    assert boxes.isfinite().all()


def test_each_stage_moves_the_boxes_of_the_one_before_less_and_less() -> None:
    """A code of 1 moves by a tenth, a twentieth and a thirtieth of the width; boxes are clipped between stages."""
    seen: list[list[float]] = []

    def stage(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(boxes[0].tolist())
        return torch.tensor([[0.0, 0]]), torch.tensor([[1.0, 0, 0, 0]])

    result = run_cascade(torch.tensor([[0.0, 0, 100, 100]]), (100, 105), [stage] * 3)
    assert seen == [[0, 0, 100, 100], [10, 0, 105, 100], [pytest.approx(14.75), 0, 105, 100]]
    assert result.boxes[0, 0].item() == pytest.approx(14.75 + (105 - 14.75) / 30)
    assert result.boxes[0, 2].item() > 105  # of the last stage, not clipped here
    assert result.scores.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("spec", "names", "threshold", "nms_iou"),
    [
        (CASCADE, ("object",), 0.0, 0.5),
        (RcnnSpec((3, 4, 6, 3), False, 1, 1, 1, False), ("object",), 0.01, 0.4),
        (CLUSTERS, tuple(f"cluster_{i}" for i in range(20)), 0.005, 0.4),
    ],
)
def test_the_papers_tests(spec: RcnnSpec, names: tuple[str, ...], threshold: float, nms_iou: float) -> None:
    assert (spec.class_names, spec.threshold, spec.nms_iou) == (names, threshold, nms_iou)
