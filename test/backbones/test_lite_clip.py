"""lite_clip's image tower: the embedded classifier, at every position, in windows and of whole pictures."""

from fractions import Fraction

import pytest
import torch
from torch.nn import functional as F

from objloc_ros.backbones.lite_clip import CLASSES, LiteImage, LiteSpec
from objloc_ros.backbones.weights import load_clip_image
from objloc_ros.errors import InputError, WeightsError
from objloc_ros.methods.maskclip import dense_features


@pytest.fixture(scope="module")
def tower():
    return load_clip_image("lite_clip")


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 128, 160, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_embeddings_are_probabilities_filled_up_to_unit_length(tower, images):
    for embedded in (
        tower(images[..., :128]),
        dense_features(tower, images)[0],
        *tower.windows(images[..., :128], [1], 2),
    ):
        assert embedded.shape[-1] == tower.embed_dim == CLASSES + 2
        torch.testing.assert_close(embedded[..., :CLASSES].sum(-1), torch.ones(embedded.shape[:-1]))
        torch.testing.assert_close(embedded.norm(dim=-1), torch.ones(embedded.shape[:-1]))
        assert (embedded[..., -1] == 0).all()  # the axis of texts


def test_positions_form_the_grid_of_patches(tower, images):
    embedded, grid = dense_features(tower, images)
    assert (grid, embedded.shape) == ((4, 5), (2, 20, CLASSES + 2))


def test_the_window_of_everything_has_the_mean_features(tower, images):
    square = images[..., :128]
    (whole,) = tower.windows(square, [Fraction(1)], 2)
    expected = tower.classifier(tower.features(square).mean((2, 3))).softmax(-1)
    torch.testing.assert_close(whole[:, 0, 0, :CLASSES], expected)


def test_windows_overlap_by_half(tower, images):
    scales = tower.windows(images[..., :128], [Fraction(1), Fraction(1, 2)], 2)
    assert [scale.shape[1:3] for scale in scales] == [(1, 1), (3, 3)]


def test_a_position_sees_around_the_centre_of_its_patch(tower):
    torch.manual_seed(0)
    image = torch.rand(1, 3, 224, 224) * 0.2
    before = tower.features(image)
    effects = torch.zeros(7, 7)
    for dy in (-1, 1):
        for dx in (-1, 1):  # four dots, symmetric about the centre of the patch in the middle
            dotted = image.clone()
            y, x = 112 + 24 * dy, 112 + 24 * dx
            dotted[:, :, y - 4 : y + 4, x - 4 : x + 4] = 1
            effects += (tower.features(dotted) - before).abs().sum((0, 1))
    rows, columns = effects.sum(1), effects.sum(0)
    places = torch.arange(7) - 3.0
    for profile in (rows, columns):
        assert abs(float((profile * places).sum() / profile.sum())) < 0.25  # in patches; half of one without the move


def test_weights_are_those_of_the_published_classifier(tower):
    """A red apple on white is fruit, as far as the classifier can tell."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 224), torch.linspace(-1, 1, 224), indexing="ij")
    ball = (x**2 + y**2 < 0.4).float()
    shade = 1 - 0.6 * (x - 0.3) ** 2 - 0.6 * (y + 0.3) ** 2
    rgb = torch.stack([ball * shade * c + (1 - ball) for c in (0.95, 0.55, 0.1)])
    best = tower((rgb * 2 - 1)[None])[0, :CLASSES].topk(5).indices.tolist()
    assert {950, 951, 852, 722, 417, 574} & set(best)  # orange, lemon, or a ball


def test_sides_must_be_multiples_of_the_patch(tower):
    with pytest.raises(InputError, match="multiples of the patch size 32"):
        tower.dense(torch.zeros(1, 3, 100, 128))


def test_whatever_is_no_such_tower_is_refused():
    with pytest.raises(WeightsError, match="does not hold the image tower of lite_clip"):
        load_clip_image("lite_clip", path="objloc_ros/backbones/tiny/tiny_clip.safetensors")


def test_autocast_changes_little(tower, images):
    with torch.autocast("cpu", torch.bfloat16):
        fast = tower.dense(images)[0]
    assert fast.dtype == torch.float32
    assert F.cosine_similarity(fast, tower.dense(images)[0], dim=-1).min() > 0.98


def test_the_spec_is_the_towers():
    assert LiteImage(LiteSpec()).side % 96 == 0  # windows of two thirds
