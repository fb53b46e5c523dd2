"""CLIP-DIY against its literal formulation, and the arithmetic of the benchmark around it."""

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from objloc_ros.backbones.clip import build_clip_image, build_text_transformer
from objloc_ros.backbones.clip_text import SPECIAL_TOKENS, ClipText, Tokenizer, byte_pairs
from objloc_ros.backbones.reduced import has_bfloat16_units
from objloc_ros.engine.prompts import check_prompts
from objloc_ros.methods.clip_diy import fuse, resized_windows, similarity, split_windows, windows_per_row
from objloc_ros.ops.geometry import plan
from objloc_ros.ops.inputs import to_input
from objloc_ros.scenes.video import drive_video

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import literal_open_vocab as literal
import live_prompts
import open_vocab as bench
import open_vocab_models as models

SIZES = [(120, 160), (256, 256), (333, 217)]


@pytest.fixture(autouse=True)
def one_thread_without_gradients():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tower():
    """A small image tower with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_clip_image("tiny_clip").eval()


def frame(size, seed=0):
    return next(iter(drive_video(seed=seed, size=size, frames=1)))[0]


def random_texts(classes, width, seed=0):
    return F.normalize(torch.randn(classes, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def telling_texts(image, tower, classes=12):
    """Texts that tell windows of an image apart; random ones do not, since a random tower sees little difference."""
    square = models.squares([image])[0].permute(1, 2, 0).numpy()
    windows = [square[y : y + 64, x : x + 64] for y in range(0, 193, 48) for x in range(0, 193, 48)]
    seen = tower(torch.stack([literal.window_input(window, tower) for window in windows]))
    return F.normalize(seen - seen.mean(0), dim=1)[:classes]


class MeanColour:
    """In the place of CLIP: a window's embedding is its mean colour."""

    side, mean, std = 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __call__(self, images):
        return images.mean((2, 3))


@pytest.mark.parametrize("side", [64, 224])
def test_windows_are_pillows_but_for_rounding(side):
    square = models.squares([frame((333, 217))])
    pixels = square[0].permute(1, 2, 0).numpy()
    found = iter(resized_windows(square, side))
    for size in literal.SCALES:
        starts = range(0, 257 - size, size // 2)
        for window in [pixels[y : y + size, x : x + size] for y in starts for x in starts]:
            expected = literal.window_pixels(window, side).astype(int)
            apart = np.abs(next(found).permute(1, 2, 0).numpy().astype(int) - expected)
            assert apart.max() <= 2
            assert (apart > 0).mean() < 0.02
            assert (apart > 1).mean() < 1e-4
    assert next(found, None) is None


@pytest.mark.parametrize("size", SIZES)
def test_similarity_maps_agree(tower, size):
    image = frame(size)
    texts = telling_texts(image, tower)
    cut = resized_windows(models.squares([image]), tower.side)
    mean, std = (torch.tensor(value)[:, None, None] * 255 for value in (tower.mean, tower.std))
    scattered = split_windows(tower((cut.float() - mean) / std), 1, windows_per_row())
    maps = literal.similarity_maps(image, tower, texts)
    assert maps.flatten(1).std(1).min() > 0.01, "the maps are too flat to tell anything"
    torch.testing.assert_close(similarity(scattered, texts, size=256)[0], maps, rtol=0, atol=1e-3)


@pytest.mark.parametrize("scales", [(256, 128, 64), (128,)])
@pytest.mark.parametrize("size", SIZES)
def test_classes_agree_but_where_two_are_equally_good(tower, size, scales):
    image, saliency = frame(size), models.smooth_saliency(1)
    texts = telling_texts(image, tower)
    expected = literal.clip_diy(image, tower, texts, saliency[0], scales)
    found = models.diy_classes(models.squares([image]), tower, texts, saliency, scales=scales)[0].numpy()
    assert len(np.unique(expected)) >= 3, "too few classes to tell anything"
    assert (found == expected).mean() > 0.99
    maps = literal.similarity_maps(image, tower, texts, scales)
    scores = torch.cat([maps[:1] * (1 - saliency), maps[1:] * saliency]).numpy()
    ours, theirs = (np.take_along_axis(scores, one[None], 0)[0] for one in (found, expected))
    assert (theirs - ours).max() < 1e-3


def test_a_batch_gives_each_image_its_own_classes(tower):
    images, saliency = [frame(size, seed) for seed, size in enumerate(SIZES)], models.smooth_saliency(3)
    texts = telling_texts(images[0], tower)
    found = models.diy_classes(models.squares(images), tower, texts, saliency).numpy()
    for image, one, seen in zip(images, found, saliency, strict=True):
        assert (one == literal.clip_diy(image, tower, texts, seen)).mean() > 0.99
    assert (found[0] != found[1]).any()


def test_both_see_red_to_the_left_blue_to_the_right_and_ground_where_nothing_is_salient():
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, :150, 0] = image[:, 150:, 2] = 200
    texts = F.normalize(torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]), dim=1)
    saliency = torch.ones(256, 256)
    saliency[:80] = 0
    expected = np.zeros((256, 256), int)
    expected[80:, :128], expected[80:, 128:] = 2, 1
    np.testing.assert_array_equal(literal.clip_diy(image, MeanColour(), texts, saliency), expected)
    found = models.diy_classes(models.squares([image]), MeanColour(), texts, saliency[None])[0]
    np.testing.assert_array_equal(found, expected)


def test_the_softmax_that_the_product_leaves_out_changes_nothing():
    maps, saliency = torch.rand(1, 6, 256, 256) * 0.4, torch.rand(1, 256, 256)
    gates = torch.cat([1 - saliency, *[saliency] * 5])
    np.testing.assert_array_equal(fuse(maps, saliency)[0], (maps[0] * gates).double().softmax(0).argmax(0))


@pytest.mark.parametrize("compact", [True, False])
def test_texts_one_by_one_are_those_of_one_batch(compact):
    known = torch.tensor(sorted(set(byte_pairs().encode("a photo of a background red car")))) if compact else None
    torch.manual_seed(0)
    tower = build_text_transformer("tiny_clip", len(known) + SPECIAL_TOKENS if compact else None).eval()
    classes = ["background", "red car", "shoggoth", "traffic cone with a flag"]
    expected = literal.class_texts(tower, Tokenizer(77, known), classes)
    found = ClipText("tiny_clip", tower, Tokenizer(77, known)).encode(classes, ["a photo of a {}"])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


@pytest.fixture(scope="module")
def towers():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.build_towers("tiny_clip")


def test_the_benchmark_times_the_engines_clip_diy(towers):
    texts = random_texts(len(models.CLASSES), towers.clip.embed_dim)
    pipeline = models.build_pipeline(towers, ["clip_diy"], texts)
    pipeline.configure("clip_diy", background="none", placement="tiled")
    image = frame((96, 128), seed=3)
    salient = torch.ones(1, 256, 256)  # nothing is ground, as in the engine without a background
    bfloat16 = has_bfloat16_units(models.CPU)
    classes = models.diy_classes(models.squares([image]), towers.clip, texts, salient, bfloat16=bfloat16)[0].numpy()
    assert (classes > 0).all(), "the prompts do not fit anywhere"
    np.testing.assert_array_equal(pipeline.run(image)["clip_diy"].classes, classes - 1)


def test_the_benchmark_times_the_engines_clip_dinoiser(towers):
    image = frame((96, 128), seed=3)
    inputs = to_input(image, plan((96, 128), patch=8, short_side=192), towers.clip.mean, towers.clip.std, black=True)
    tokens = towers.clip.tokens(inputs)
    towers.dinoiser.bkg_decoder.bias -= towers.dinoiser(tokens.middle, tokens.grid)[1].median()  # half is ground
    # Near each other, so that none is certain and the ground counts.
    texts = F.normalize(1 + 0.1 * random_texts(len(models.CLASSES), towers.clip.embed_dim), dim=1)
    found = models.build_pipeline(towers, ["clip_dinoiser"], texts).run(image)["clip_dinoiser"].classes
    bfloat16 = has_bfloat16_units(models.CPU)
    classes = models.dinoiser_classes(inputs, towers.clip, towers.dinoiser, texts, bfloat16=bfloat16)[0].numpy()
    assert 0.2 < (found == 255).mean() < 0.8
    np.testing.assert_array_equal(found, np.array([255, *range(20)])[classes])


def test_passes_of_the_text_tower_are_counted_and_frames_need_none():
    passes = bench.text_passes(frames=1)
    assert passes == {"20 new prompts": 1, "the same again": 0, "1 frames with each method": 0}


def test_counting_stops_with_the_block():
    table = torch.nn.Embedding(3, 2)
    with bench.counted_text_passes() as count:
        table(torch.tensor([0]))
        torch.nn.Linear(2, 2)(torch.zeros(2))
        assert count() == 1
    table(torch.tensor([0]))
    assert count() == 1


def test_prompts_never_come_twice_and_are_accepted():
    sets = list(islice(models.fresh_prompts(), 31))
    assert len({prompt for prompts in sets for prompt in prompts}) == 31 * 20, "31 sets serve 30 changes"
    for prompts in sets:
        check_prompts("tiny_clip", prompts, ["a photo of a {}"])


@pytest.mark.parametrize(
    ("start", "end", "expected"), [(1.0, 2.0, 10), (1.03, 1.98, 9.5), (1.0, 1.05, 0.5), (-5.0, 0.0, 0), (3.0, 3.0, 0)]
)
def test_frames_in_an_interval_have_fractions(start, end, expected):
    assert live_prompts.measure_answered(np.arange(0, 8, 0.1), start, end) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (lambda t: t < 0, 0),
        (lambda t: (t > 5.05) & (t < 5.55), 50),
        (lambda t: (t > 1.05) & (t < 3.55), -100),
        (lambda t: (t > 6.05) & (t < 6.95), 0),
    ],
    ids=["nothing is lost", "half of the second", "half of the time before", "only afterwards"],
)
def test_loss_compares_a_second_with_those_before(missing, expected):
    answers = np.arange(0, 8, 0.1)
    assert live_prompts.loss(answers[~missing(answers)], 5.0, 5.0) == pytest.approx(expected, abs=1)


def test_agreement_is_told_in_percent():
    expected, found = np.array([[0, 1], [2, 2]]), np.array([[0, 1], [2, 1]])
    assert bench._agreement(expected, found) == "75.00 % of pixels equal, 3 class(es) in the map"
