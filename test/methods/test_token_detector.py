"""The token detector: shapes, reach, and how answers become objects; these are planted where no network is asked."""

from __future__ import annotations

import itertools

import pytest
import torch

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.token_detector import Decoded, Dense, TokenDetector, decode, mask_logits, place_boxes

E = 4
"""Channels of the planted embedding."""


def network(**options) -> TokenDetector:
    torch.manual_seed(0)
    return TokenDetector(10, **{"width": 16, "embedding": E, **options}).eval()


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def plant(
    rows: int, columns: int, *objects: tuple[tuple[int, int], float, tuple[float, ...]], classes: int = 1
) -> Dense:
    """Answers about one image that see nothing but these objects.

    Args:
        rows: Of the patch grid.
        columns: Of the patch grid.
        objects: The patch of each, its score, and the distances of its sides; its mask is what is marked in channel 0.
        classes: How many.
    """
    objectness = torch.full((1, rows, columns), -20.0)
    boxes = torch.ones(1, 4, rows, columns)
    kernels = torch.zeros(1, E + 6, rows, columns)
    kernels[:, 0], kernels[:, E] = 1.0, -0.5
    kernels[:, E + 3 : E + 5] = -50.0  # softplus of it is 0: no fading with the distance
    for (row, column), score, sides in objects:
        objectness[0, row, column] = torch.tensor(score).logit()
        boxes[0, :, row, column] = torch.tensor(sides)
    categories = None if classes == 1 else torch.zeros(1, classes, rows, columns)
    return Dense(objectness, boxes, kernels, torch.zeros(1, E, 2 * rows, 2 * columns), categories)


def decode_one(dense: Dense, **options) -> Decoded:
    (decoded,) = decode(dense, **options)
    return decoded


@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (9, 1), (5, 8), (2, 3)])
@pytest.mark.parametrize("classes", [("object",), ("car", "dog", "cup")])
def test_every_grid_has_answers_of_its_size(grid, classes):
    rows, columns = grid
    with torch.inference_mode():
        dense = network(classes=classes)(tokens(2, 10, rows, columns))
    assert dense.objectness.shape == (2, rows, columns)
    assert dense.boxes.shape == (2, 4, rows, columns)
    assert dense.kernels.shape == (2, E + 6, rows, columns)
    assert dense.pixels.shape == (2, E, 2 * rows, 2 * columns)
    assert (dense.categories is None) == (len(classes) == 1)
    assert dense.categories is None or dense.categories.shape == (2, len(classes), rows, columns)
    assert all(part.isfinite().all() for part in dense if part is not None)
    assert dense.boxes.min() > 0
    for decoded in decode(dense, threshold=0.0):
        n = len(decoded.scores)
        assert decoded.masks.shape == (n, 2 * rows, 2 * columns)
        assert decoded.boxes.shape == (n, 4)
        assert (decoded.scores.diff() <= 0).all()


def test_it_sees_fifteen_patches_and_where_they_are():
    detector, x = network(), torch.zeros(1, 10, 31, 31)
    for norm in (layer for layer in detector.trunk if isinstance(layer, torch.nn.GroupNorm)):
        norm.forward = lambda x: x  # a norm over the image lets every patch see all
    before = detector(x).objectness
    x[0, :, 15, 15] = 1
    changed = torch.nonzero((detector(x).objectness - before)[0].abs() > 1e-9)
    assert (changed.min(0).values.tolist(), changed.max(0).values.tolist()) == ([8, 8], [22, 22])
    assert (before[0, 15, 8:23].diff().abs() > 0).all()  # equal tokens, other columns
    assert (before[0, 8:23, 15].diff().abs() > 0).all()


def test_tokens_are_standardised_by_what_training_has_seen():
    detector, x = network(), tokens(1, 10, 4, 5)
    plain = detector(x)
    detector.mean.fill_(3.0)
    detector.std.fill_(0.5)
    for one, other in zip(plain[:4], detector(x * 0.5 + 3)[:4], strict=True):
        torch.testing.assert_close(one, other)


def test_an_untrained_network_is_sure_of_nothing():
    scores = network()(tokens(3, 10, 6, 6)).objectness.sigmoid()
    assert 0.001 < scores.mean() < 0.05


def test_images_of_a_batch_do_not_see_each_other():
    detector, x = network(), tokens(3, 10, 5, 4)
    torch.testing.assert_close(detector(x).kernels[1:2], detector(x[1:2]).kernels)


def test_masks_follow_the_formula():
    """Each term of the spec, written out pixel by pixel."""
    generator = torch.Generator().manual_seed(2)
    dense = plant(3, 4)._replace(
        kernels=torch.randn(1, E + 6, 3, 4, generator=generator), pixels=torch.randn(1, E, 6, 8, generator=generator)
    )
    rows, columns = torch.tensor([2, 0, 1]), torch.tensor([0, 3, 1])
    got = mask_logits(dense, 0, rows, columns)
    assert got.shape == (3, 6, 8)
    for n, y, x in itertools.product(range(3), range(6), range(8)):
        kernel, looks = dense.kernels[0, :, rows[n], columns[n]].tolist(), dense.pixels[0, :, y, x].tolist()
        dx, dy = ((x + 0.5) / 2 - (columns[n] + 0.5)) / 8, ((y + 0.5) / 2 - (rows[n] + 0.5)) / 8
        constant, along_x, along_y, bend_x, bend_y, twist = kernel[E:]
        fade_x, fade_y = torch.tensor([bend_x, bend_y]).exp().log1p()
        wanted = sum(k * e for k, e in zip(kernel, looks, strict=False)) + constant + along_x * dx + along_y * dy
        wanted += twist * dx * dy - fade_x * dx**2 - fade_y * dy**2
        assert got[n, y, x] == pytest.approx(float(wanted), abs=1e-4)


def test_equal_looks_are_told_apart_by_the_place():
    """Two patches of one kernel: each mask is around its own patch."""
    dense = plant(1, 12)
    dense.kernels[0, E : E + 6] = torch.tensor([0.05, 0, 0, 5.0, 5.0, 0])[:, None, None]
    masks = mask_logits(dense, 0, torch.tensor([0, 0]), torch.tensor([2, 9])) > 0
    assert (
        torch.nonzero(masks[0].any(0)).flatten().tolist() == torch.nonzero(masks[1].any(0)).flatten().sub(14).tolist()
    )
    assert not (masks[0] & masks[1]).any()


def test_boxes_are_distances_from_the_centre_of_a_patch():
    dense = plant(4, 6, ((1, 2), 0.9, (0.5, 1.0, 2.0, 1.5)))
    assert place_boxes(dense, 0, torch.tensor([1]), torch.tensor([2])).tolist() == [[2.0, 0.5, 4.5, 3.0]]


def test_planted_objects_are_decoded():
    dense = plant(6, 10, ((1, 1), 0.6, (1.5, 1.5, 1.5, 1.5)), ((4, 7), 0.9, (2.0, 1.0, 2.0, 1.0)))
    dense.pixels[0, 0, 1:5, 0:4] = 1.0
    dense.pixels[0, 0, 8:10, 12:18] = 1.0
    got = decode_one(dense)
    assert got.scores.tolist() == pytest.approx([0.9, 0.6])
    assert got.boxes.tolist() == [[6.0, 4.0, 9.0, 5.0], [0.0, 0.5, 2.0, 2.5]]  # of the masks, not the predicted ones
    assert got.masks.dtype == torch.bool
    assert torch.equal(got.masks[0], dense.pixels[0, 0].bool() & (torch.arange(12)[:, None] >= 6))
    assert got.categories.tolist() == [0, 0]


def test_masks_are_cut_to_the_box_and_a_margin():
    dense = plant(20, 20, ((9, 9), 0.9, (5.0, 2.5, 5.0, 2.5)))
    dense.pixels[0, 0] = 1.0
    assert decode_one(dense).boxes.tolist() == [[3.5, 6.5, 15.5, 12.5]]  # 10 x 5 patches, 1 and .5 around them


def test_of_overlapping_objects_the_best_stays():
    sides = (2.0, 2.0, 2.0, 2.0)
    dense = plant(8, 8, ((3, 3), 0.5, sides), ((3, 4), 0.7, sides), ((6, 6), 0.6, sides))
    dense.pixels[0, 0] = 1.0
    assert decode_one(dense).scores.tolist() == pytest.approx([0.7, 0.6])
    assert len(decode_one(dense, nms_iou=0.9).scores) == 3
    assert decode_one(dense, nms_iou=0.9, limit=2).scores.tolist() == pytest.approx([0.7, 0.6])
    assert decode_one(dense, threshold=0.65).scores.tolist() == pytest.approx([0.7])


def test_boxes_end_at_the_image():
    dense = plant(3, 4, ((0, 0), 0.8, (30.0, 30.0, 30.0, 30.0)))
    dense.pixels[0, 0] = 1.0
    assert decode_one(dense).boxes.tolist() == [[0.0, 0.0, 4.0, 3.0]]


def test_nothing_above_the_threshold_and_empty_masks_are_no_objects():
    for dense in (plant(3, 4), plant(3, 4, ((1, 1), 0.9, (1.0, 1.0, 1.0, 1.0)))):  # the second without any pixel
        got = decode_one(dense)
        assert [tuple(part.shape) for part in got] == [(0, 4), (0,), (0, 6, 8), (0,)]


def test_classes_are_those_of_the_chosen_patches():
    sides = (1.0, 1.0, 1.0, 1.0)
    dense = plant(4, 9, ((1, 1), 0.5, sides), ((2, 7), 0.9, sides), classes=3)
    dense.pixels[0, 0] = 1.0
    dense.categories[0, 2, 1, 1] = dense.categories[0, 1, 2, 7] = 5.0
    assert decode_one(dense).categories.tolist() == [1, 2]


def test_every_image_of_a_batch_has_its_own_objects():
    one, none = plant(3, 3, ((1, 1), 0.9, (1.0, 1.0, 1.0, 1.0))), plant(3, 3)
    one.pixels[0, 0] = 1.0
    both = Dense(*(torch.cat([a, b]) for a, b in zip(none[:4], one[:4], strict=True)))
    assert [len(decoded.scores) for decoded in decode(both)] == [0, 1]


def test_answers_are_the_same_each_time():
    detector, x = network(), tokens(2, 10, 9, 11)
    for first, second in zip(decode(detector(x), threshold=0), decode(detector(x), threshold=0), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_features_that_are_no_numbers_are_refused():
    x = tokens(1, 10, 3, 3)
    x[0, 4, 1, 1] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        decode(network()(x))


def test_tokens_of_another_width_are_refused():
    with pytest.raises(InputError, match=r"expected tokens \[B, 10, h, w\], got \[1, 11, 2, 2\]"):
        network()(tokens(1, 11, 2, 2))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"width": 12}, "multiple of 8"),
        ({"embedding": 0}, "at least 1"),
        ({"classes": ()}, "classes"),
        ({"classes": ("cup", "cup")}, "different"),
        ({"classes": ("",)}, "names"),
    ],
)
def test_impossible_networks_are_refused(options, named):
    with pytest.raises(ParameterError, match=named):
        network(**options)


def test_gradients_reach_every_parameter():
    detector = network(classes=("a", "b"))
    dense = detector(tokens(1, 10, 4, 4))
    masks = mask_logits(dense, 0, torch.tensor([1, 2]), torch.tensor([0, 3]))
    (masks.sum() + dense.objectness.sum() + dense.boxes.sum() + dense.categories.sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in detector.parameters())
