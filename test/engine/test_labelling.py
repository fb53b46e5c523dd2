"""From maps to one label per pixel and to regions, on maps that are written out."""

import math

import numpy as np
import pytest
import torch

from objloc_ros.engine.heads.labelling import choose_classes, find_regions, label_pixels, unite_regions
from objloc_ros.errors import ParameterError
from objloc_ros.methods.options import SegmentationOptions
from objloc_ros.ops.geometry import Geometry
from objloc_ros.types import UNLABELLED, LabelSet

LABELS = LabelSet(("dog", "traffic cone"), (7, 0))
WITH_BACKGROUND = LabelSet(("dog", "background"), (7, 3))
U = UNLABELLED

COSINES = torch.tensor(
    [
        [[0.30, 0.30, 0.10, 0.20]],  # background
        [[0.28, 0.20, 0.25, 0.20]],  # dog
        [[0.20, 0.29, 0.20, 0.25]],  # cone
    ]
)
SALIENCY = torch.tensor([[0.9, 0.4, 0.2, 0.9]])


def plain(height, width, scale=1):
    """Maps of this size, of an image that is `scale` times as large."""
    return Geometry((height * scale, width * scale), (height, width), (height, width), 1)


def share(*cosines):
    """CLIP's softmax: the probability of the first."""
    powers = [math.exp(100 * cosine) for cosine in cosines]
    return powers[0] / sum(powers)


def test_the_word_background_competes():
    best, sure = choose_classes(COSINES, None, "prompt")
    assert best.tolist() == [[0, 0, 1, 2]]
    expected = [share(0.3, 0.28, 0.2), share(0.3, 0.2, 0.29), share(0.25, 0.1, 0.2), share(0.25, 0.2, 0.2)]
    assert sure[0].tolist() == pytest.approx(expected, rel=1e-4)


def test_without_a_background_every_pixel_has_a_prompt():
    best, sure = choose_classes(COSINES, None, "none")
    assert best.tolist() == [[1, 2, 1, 2]]
    assert sure[0].tolist() == pytest.approx(
        [share(0.28, 0.2), share(0.29, 0.2), share(0.25, 0.2), share(0.25, 0.2)], rel=1e-4
    )


def test_a_region_has_the_class_that_is_most_probable_over_all_of_it():
    """Two regions beside a column of background: two pixels that disagree, and one."""
    probabilities = torch.tensor([[[0.6, 0.6, 0.5, 0.3]], [[0.3, 0.4, 0.5, 0.3]], [[0.1, 0.0, 0.0, 0.4]]])
    classes = torch.tensor([[1, 2, 0, 3]])
    assert unite_regions(classes, probabilities, min_area=0).tolist() == [[1, 1, 0, 3]]
    sure = torch.tensor([[[0.6, 0.0, 1.0, 0.3]], [[0.4, 1.0, 0.0, 0.3]], [[0.0, 0.0, 0.0, 0.4]]])
    assert unite_regions(torch.tensor([[1, 2, 1, 3]]), sure, min_area=0).tolist() == [[1, 1, 1, 1]]
    assert unite_regions(classes, sure, min_area=0.25).tolist() == [[2, 2, 0, 3]]
    assert unite_regions(classes, sure, min_area=0.26).tolist() == [[2, 2, 0, 0]]
    assert unite_regions(torch.zeros(1, 4, dtype=torch.int64), sure, min_area=0).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("background", ["found", "prompt", "none"])
def test_labels_per_region_have_the_confidence_of_their_own_pixels(background):
    saliency = SALIENCY if background == "found" else None
    best, sure = choose_classes(COSINES, saliency, background)
    united, united_sure = choose_classes(COSINES, saliency, background, min_region=0)
    assert ((united > 0) == (best > 0)).all()
    same = united == best
    assert same.any()
    assert torch.equal(united_sure[same], sure[same])
    assert (united_sure[~same] < sure[~same]).all()
    if background == "prompt":
        assert united.tolist() == [[0, 0, 1, 1]], "dog 1.0 and 0.01, cone 0.0 and 0.99"


def test_saliency_weighs_prompts_against_the_background():
    """Products: background .03 .18 .08 .02, dog .252 .08 .05 .18, cone .18 .116 .04 .225."""
    best, sure = choose_classes(COSINES, SALIENCY, "found")
    assert best.tolist() == [[1, 0, 0, 2]]
    expected = [share(0.28, 0.2) * 0.9, 1 - 0.4, 1 - 0.2, share(0.25, 0.2) * 0.9]
    assert sure[0].tolist() == pytest.approx(expected, rel=1e-4)


def test_negative_cosines_mislead_a_product_unless_they_are_shifted():
    """Everything is salient, nothing fits: times 1 - saliency the background's -0.5 becomes the least bad."""
    cosines = torch.tensor([[[-0.5]], [[-0.4]], [[-0.3]]])
    saliency = torch.tensor([[0.9]])
    assert choose_classes(cosines, saliency, "found")[0].item() == 0
    best, sure = choose_classes(cosines, saliency, "found", signed=True)  # .25 * .1, .3 * .9, .35 * .9
    assert best.item() == 2
    assert sure.item() == pytest.approx(0.9 * share(-0.3, -0.4), rel=1e-4)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("background", ["prompt", "none"])
def test_the_shift_changes_nothing_without_saliency(background, signed):
    cosines = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0)) * 2 - 1
    best, sure = choose_classes(cosines, None, background, signed=signed)
    plain_best, plain_sure = choose_classes(cosines, None, background)
    assert torch.equal(best, plain_best)
    assert torch.equal(sure, plain_sure)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("level", "labelled_everywhere"), [(0.0, False), (1.0, True)])
def test_a_certain_saliency_decides_alone(level, labelled_everywhere, signed):
    cosines = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.1
    best, sure = choose_classes(cosines, torch.full((5, 6), level), "found", signed=signed)
    assert ((best > 0) == labelled_everywhere).all()
    assert ((sure >= 0) & (sure <= 1)).all()
    if labelled_everywhere:
        assert torch.equal(best, choose_classes(cosines, None, "none")[0])


@pytest.mark.parametrize("background", ["found", "prompt", "none"])
def test_a_single_prompt_is_enough(background):
    best, sure = choose_classes(COSINES[:2], SALIENCY, background)
    assert best.tolist() == {"found": [[1, 0, 0, 1]], "prompt": [[0, 0, 1, 0]], "none": [[1, 1, 1, 1]]}[background]
    assert ((sure > 0) & (sure <= 1)).all()


def test_ids_stand_in_the_place_of_classes():
    classes = torch.tensor([[0, 1, 2], [2, 2, 0]])
    confidence = torch.tensor([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]])
    result = label_pixels(classes, confidence, LABELS, plain(2, 3), SegmentationOptions(min_area=0.0))
    assert result.classes.dtype == np.uint8
    assert result.classes.tolist() == [[U, 7, 0], [0, 0, U]]
    assert result.mask.tolist() == [[False, True, True], [True, True, False]]
    np.testing.assert_allclose(result.confidence, [[0, 0.8, 0.7], [0.6, 0.5, 0]])
    assert result.labels is LABELS
    assert result.detections.labels == ("dog", "traffic cone", "traffic cone")


def test_a_background_that_was_asked_for_has_its_id():
    classes = torch.tensor([[0, 1, 2, 0]])
    result = label_pixels(classes, torch.full((1, 4), 0.5), WITH_BACKGROUND, plain(1, 4), SegmentationOptions())
    assert result.classes.tolist() == [[3, 7, 3, 3]]
    assert result.mask.all()
    np.testing.assert_allclose(result.confidence, 0.5)
    assert result.detections.labels == ("dog",)  # ground is no object


@pytest.mark.parametrize(
    ("threshold", "ids"),
    [(0.0, [3, 7, 3, 7]), (0.5, [3, 7, 3, U]), (0.51, [3, U, 3, U]), (0.7, [U, U, U, U]), (1.0, [U, U, U, U])],
)
def test_what_is_less_sure_than_the_threshold_stays_unlabelled(threshold, ids):
    classes, confidence = torch.tensor([[0, 1, 0, 1]]), torch.tensor([[0.6, 0.5, 0.6, 0.2]])
    options = SegmentationOptions(threshold=threshold, min_area=0.0)
    result = label_pixels(classes, confidence, WITH_BACKGROUND, plain(1, 4), options)
    assert result.classes.tolist() == [ids]
    assert (result.confidence[result.classes == U] == 0).all()
    assert len(result.detections) == ids.count(7)


def test_confidence_stays_between_0_and_1():
    sure = torch.tensor([[1.0000001, -1e-9]])
    result = label_pixels(torch.tensor([[1, 2]]), sure, LABELS, plain(1, 2), SegmentationOptions(min_area=0.0))
    assert result.confidence.dtype == np.float32
    assert result.confidence.tolist() == [[1.0, 0.0]]


def test_the_result_is_brought_to_the_images_size():
    classes = torch.tensor([[0, 1], [2, 1]])
    options = SegmentationOptions(min_area=0.0)
    result = label_pixels(classes, torch.tensor([[0.2, 0.4], [0.6, 1.0]]), LABELS, plain(2, 2, scale=3), options)
    assert result.classes_u8().tolist() == [[U, U, U, 7, 7, 7]] * 3 + [[0, 0, 0, 7, 7, 7]] * 3
    assert result.confidence_u8()[::3, ::3].tolist() == [[0, 102], [153, 255]]
    assert result.mask_u8()[::3, ::3].tolist() == [[0, 255], [255, 255]]
    boxes = dict(zip(result.detections.labels, result.detections.boxes.tolist(), strict=True))
    assert boxes == {"dog": [3, 0, 6, 6], "traffic cone": [0, 3, 3, 6]}


IDS = np.array(
    [
        [7, 7, U, 0, 0],
        [7, U, U, 0, 0],
        [U, 7, U, U, U],
        [0, 0, 0, U, 7],
    ],
    np.uint8,
)
SURE = np.array(
    [
        [0.9, 0.6, 0.0, 0.8, 0.8],
        [0.3, 0.0, 0.0, 0.4, 0.4],
        [0.0, 0.7, 0.0, 0.0, 0.0],
        [0.5, 0.5, 0.5, 0.0, 1.0],
    ],
    np.float32,
)
FOUND = [  # label, box, score, area: best first, corners do not join
    ("dog", [4, 3, 5, 4], 1.0, 1),
    ("dog", [1, 2, 2, 3], 0.7, 1),
    ("dog", [0, 0, 2, 2], 0.6, 3),
    ("traffic cone", [3, 0, 5, 2], 0.6, 4),
    ("traffic cone", [0, 3, 3, 4], 0.5, 3),
]


@pytest.mark.parametrize("smallest", [0, 1, 2, 3, 4, 5])
def test_regions_of_each_label_are_detections(smallest):
    found = find_regions(IDS, SURE, LABELS, plain(4, 5), min_area=smallest / 20)
    expected = [one for one in FOUND if one[3] >= smallest]
    assert found.labels == tuple(label for label, _, _, _ in expected)
    assert found.boxes.tolist() == [box for _, box, _, _ in expected]
    np.testing.assert_allclose(found.scores, [score for _, _, score, _ in expected], rtol=1e-6)


def test_boxes_are_in_pixels_of_the_image():
    found = find_regions(IDS, SURE, LABELS, Geometry((40, 25), (4, 5), (4, 5), 1), min_area=0.2)
    assert found.boxes.tolist() == [[15, 0, 25, 20]]
    assert found.boxes.dtype == np.float32


@pytest.mark.parametrize("ids", [np.full((3, 4), U, np.uint8), np.full((3, 4), 3, np.uint8)])
def test_ground_and_unlabelled_pixels_are_no_regions(ids):
    found = find_regions(ids, np.ones((3, 4), np.float32), WITH_BACKGROUND, plain(3, 4), min_area=0.0)
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_one_pixel_is_an_image():
    result = label_pixels(torch.tensor([[1]]), torch.tensor([[0.5]]), LABELS, plain(1, 1), SegmentationOptions())
    assert result.detections.boxes.tolist() == [[0, 0, 1, 1]]
    assert result.classes.tolist() == [[7]]


def test_254_labels_side_by_side():
    labels = LabelSet.number([f"thing {i}" for i in range(254)])
    classes = torch.arange(255)[None]
    result = label_pixels(classes, torch.full((1, 255), 0.5), labels, plain(1, 255), SegmentationOptions(min_area=0.0))
    assert result.classes.tolist() == [[U, *range(254)]]
    assert sorted(result.detections.labels) == sorted(labels.prompts)
    for box, label in zip(result.detections.boxes, result.detections.labels, strict=True):
        number = labels.ids[labels.prompts.index(label)]
        assert box.tolist() == [number + 1, 0, number + 2, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"background": "ground"}, "background must be one of found, prompt, none; got 'ground'"),
        ({"threshold": 1.01}, r"threshold must lie in \[0, 1\], got 1.01"),
        ({"threshold": -0.1}, "threshold must lie"),
        ({"threshold": math.nan}, "threshold must lie"),
        ({"min_area": 2}, r"min_area must lie in \[0, 1\], got 2"),
    ],
)
def test_options_out_of_range_are_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        SegmentationOptions(**changes)
