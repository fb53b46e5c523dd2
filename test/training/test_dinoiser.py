from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from objloc_ros.backbones.clip import ClipImage, ClipTokens, build_clip_image
from objloc_ros.backbones.vit import ViT, build_vit
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.training.dinoiser import DinoiserState, Lesson, Teachers, query_teachers, train_dinoiser
from objloc_ros.training.dinoiser_data import DinoiserTraining, augment
from objloc_ros.types import Features

SIZE = 32
SMALL = {"steps": 4, "batch": 2, "size": SIZE, "projection_rate": 1e-3}


def picture(seed: int, size: tuple[int, int] = (40, 56)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.full((*size, 3), (20, 90, 40), dtype=np.uint8) + rng.integers(0, 20, (*size, 1), dtype=np.uint8)
    y, x = rng.integers(2, 14), rng.integers(2, 30)
    image[y : y + 20, x : x + 20] = (230, 40, 60)
    return image


PICTURES = [picture(seed) for seed in range(5)]


class ColourViT(nn.Module):
    """Keys and values are the colours of patches of any size, around grey."""

    n_heads, embed_dim = 1, 3
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self, patch: int = 8) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, images: torch.Tensor) -> Features:
        colours = F.avg_pool2d(images, self.patch)
        keys = colours.flatten(2).mT
        attention = keys[:, None, :, 0].softmax(-1)
        return Features(keys=keys, queries=keys, values=keys, cls_attention=attention, grid=tuple(colours.shape[2:]))


class ColourClip(nn.Module):
    """A tower that sees nothing but the colours of patches, each as a mixture in 16 channels."""

    patch = 8
    mean, std = (0.4, 0.5, 0.6), (0.25, 0.25, 0.25)
    spec = SimpleNamespace(width=16)

    def __init__(self) -> None:
        super().__init__()
        self.mixture = nn.Parameter(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)))

    def tokens(self, images: torch.Tensor) -> ClipTokens:
        colours = F.avg_pool2d(images, 8)
        middle = colours.flatten(2).mT @ self.mixture
        return ClipTokens(middle, middle, tuple(colours.shape[2:]))


@pytest.fixture(scope="module")
def clip() -> ClipImage:
    torch.manual_seed(0)
    return build_clip_image("tiny_clip").requires_grad_(False).eval()


def colourful(clip: ClipImage, dino_patch: int = 8, found_patch: int = 8) -> Teachers:
    """Red patches are objects, and colours belong together."""
    weight = torch.tensor([2.0, -2.0, 0.0]).view(1, 3, 1, 1)
    return Teachers(clip, ColourViT(dino_patch), ColourViT(found_patch), weight, torch.zeros(1))


@pytest.fixture(scope="module")
def teachers(clip: ClipImage) -> Teachers:
    torch.manual_seed(1)
    vit: ViT = build_vit("tiny").requires_grad_(False).eval()
    return Teachers(clip, vit, vit, torch.randn(1, vit.embed_dim, 1, 1), torch.zeros(1))


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_training_lowers_both_losses_on_other_pictures() -> None:
    teachers = colourful(ColourClip())
    settings = DinoiserTraining(**SMALL | {"steps": 60, "batch": 4, "background_rate": 0.1})
    unseen = [augment(picture(seed), size=SIZE, brightness=0.0, key=(seed,)) for seed in range(100, 108)]
    lesson = query_teachers(teachers, torch.from_numpy(np.stack(unseen)), settings)
    fresh = DinoiserState(settings, 16, torch.device("cpu"))
    before = fresh.update(lesson)
    head, log = train_dinoiser(teachers, PICTURES, settings)
    assert len(log) == 60
    assert not any(parameter.requires_grad for parameter in head.parameters())
    fresh.head.load_state_dict(head.state_dict())
    after = fresh.update(lesson)
    assert after["related"] < 0.9 * before["related"]  # correlations in [0, 1] as logits: the floor is high
    assert after["related_iou"] > before["related_iou"]
    assert after["objects"] < 0.6 * before["objects"]
    assert after["objects_iou"] > max(0.8, before["objects_iou"])


def test_the_loss_is_that_of_the_paper(clip: ClipImage) -> None:
    lesson = query_teachers(colourful(clip), torch.rand(2, 3, SIZE, SIZE), DinoiserTraining(**SMALL))
    state = DinoiserState(DinoiserTraining(**SMALL), clip.spec.width, torch.device("cpu"))
    with torch.no_grad():
        correlations, logits = state.head(lesson.middle, lesson.grid)
    losses = state.update(lesson)

    def cross_entropy(logits: torch.Tensor, truth: torch.Tensor) -> float:
        return float(-torch.where(truth, F.logsigmoid(logits), F.logsigmoid(-logits)).mean())

    assert losses["related"] == pytest.approx(cross_entropy(correlations, lesson.related), rel=1e-5)
    assert losses["objects"] == pytest.approx(cross_entropy(logits, lesson.foreground), rel=1e-5)


def test_what_the_teachers_answer(clip: ClipImage) -> None:
    red, green, violet = (0.9, 0.1, 0.5), (0.1, 0.9, 0.5), (0.9, 0.45, 0.9)
    colours = torch.tensor([red, green, violet, (0.5, 0.5, 0.5)])
    pixels = colours.T.view(1, 3, 2, 2).repeat_interleave(8, 2).repeat_interleave(8, 3)
    lesson = query_teachers(colourful(clip), pixels, DinoiserTraining(**SMALL))
    assert lesson.grid == (2, 2)
    related = [  # cosines around grey: red and violet 0.77, grey with nothing, itself included
        [True, False, True, False],
        [False, True, False, False],
        [True, False, True, False],
        [False, False, False, False],
    ]
    assert lesson.related[0].tolist() == related
    assert lesson.foreground[0].tolist() == [[True, False], [True, False]]  # grey: 0.5 is not above 0.5
    stricter = query_teachers(colourful(clip), pixels, DinoiserTraining(**SMALL | {"gamma": 0.8}))
    assert not stricter.related[0, 0, 2]
    looser = query_teachers(colourful(clip), pixels, DinoiserTraining(**SMALL | {"gamma": 0.0}))
    assert looser.related[0].tolist() == related  # only what is positive


def test_grids_of_teachers_are_resized_to_that_of_clip(clip: ClipImage) -> None:
    pixels = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    lesson = query_teachers(colourful(clip, 16, 4), pixels, DinoiserTraining(**SMALL))
    assert lesson.middle.shape == (2, 16, clip.spec.width)
    normalised = (pixels - 0.5) / 0.25
    values = F.interpolate(F.avg_pool2d(normalised, 16), size=(4, 4), mode="bilinear", align_corners=False)
    values = values.flatten(2).mT
    cosines = F.cosine_similarity(values[:, :, None], values[:, None], dim=-1)
    assert (lesson.related == (cosines >= 0.2)).float().mean() > 0.999
    fine = F.avg_pool2d(normalised, 4)
    saliency = (2 * fine[:, :1] - 2 * fine[:, 1:2]).sigmoid()
    soft = F.interpolate(saliency, size=(4, 4), mode="bilinear", align_corners=False)[:, 0]
    assert torch.equal(lesson.foreground, soft > 0.5)


def test_equal_seeds_give_equal_heads_whatever_the_workers(teachers: Teachers) -> None:
    runs = [
        train_dinoiser(teachers, PICTURES, DinoiserTraining(**SMALL, seed=seed), workers=workers)
        for seed, workers in ((0, 1), (0, 3), (1, 1))
    ]
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    assert not same(runs[0][0], runs[2][0])


def test_a_resumed_run_ends_like_an_unbroken_one(teachers: Teachers, tmp_path: Path) -> None:
    settings, checkpoint = DinoiserTraining(**SMALL | {"steps": 5}), tmp_path / "head.checkpoint"
    expected, log = train_dinoiser(teachers, PICTURES, settings)

    def interrupt(step: int, _: dict) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_dinoiser(teachers, PICTURES, settings, checkpoint=checkpoint, save_every=3, on_progress=interrupt)
    seen: list[int] = []
    for _ in range(2):  # the second time nothing is left to do
        head, resumed = train_dinoiser(
            teachers, PICTURES, settings, checkpoint=checkpoint, on_progress=lambda step, _: seen.append(step)
        )
        assert same(head, expected)
        assert resumed == log
    assert seen == [4, 5]


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch": 3}, {"steps": 5}, {"gamma": 0.3}])
def test_a_checkpoint_of_another_run_is_refused(teachers: Teachers, change: dict, tmp_path: Path) -> None:
    run = SMALL | {"steps": 1}
    train_dinoiser(teachers, PICTURES, DinoiserTraining(**run), checkpoint=tmp_path / "c")
    with pytest.raises(ParameterError, match="of another run: step 1 of"):
        train_dinoiser(teachers, PICTURES, DinoiserTraining(**run | change), checkpoint=tmp_path / "c")


def test_training_leaves_the_teachers_and_the_global_generator_alone(teachers: Teachers) -> None:
    before = [parameter.clone() for parameter in (*teachers.clip.parameters(), *teachers.dino.parameters())]
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train_dinoiser(teachers, PICTURES, DinoiserTraining(**SMALL | {"steps": 1}))
    assert torch.equal(torch.rand(3), expected)
    after = (*teachers.clip.parameters(), *teachers.dino.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_rates_and_their_fall(clip: ClipImage) -> None:
    paper = DinoiserTraining()
    assert [paper.decay(step) for step in (0, 4999, 5000, 6299)] == [1.0, 1.0, 0.1, 0.1]
    settings = DinoiserTraining(**SMALL | {"steps": 63})
    assert [settings.decay(step) for step in (0, 49, 50, 62)] == [1.0, 1.0, 0.1, 0.1]
    state = DinoiserState(settings, clip.spec.width, torch.device("cpu"))
    lesson = Lesson(torch.rand(1, 4, clip.spec.width), (2, 2), torch.ones(1, 4, 4) > 0, torch.ones(1, 2, 2) > 0)
    for step, factor in ((0, 1.0), (60, 0.1)):
        state.step = step
        state.update(lesson)
        groups = state.optimiser.param_groups
        assert [group["lr"] for group in groups] == pytest.approx([1e-3 * factor, 1e-2 * factor])
        assert [group["weight_decay"] for group in groups] == [0.01, 0.01]
        assert [sum(p.numel() for p in group["params"]) for group in groups] == [295_168, 129]


def test_what_cannot_be_trained_is_refused(clip: ClipImage, teachers: Teachers) -> None:
    with pytest.raises(ParameterError, match="size must be a multiple of the patch size 16, got 40"):
        train_dinoiser(colourful(clip, 8, 16), PICTURES, DinoiserTraining(**SMALL | {"size": 40}))
    with pytest.raises(ParameterError, match="workers must be at least 1, got 0"):
        train_dinoiser(teachers, PICTURES, DinoiserTraining(**SMALL), workers=0)
    with pytest.raises(InputError, match="at least one picture, got none"):
        train_dinoiser(teachers, [], DinoiserTraining(**SMALL))
    with pytest.raises(InputError, match="expected an RGB uint8 array"):
        train_dinoiser(teachers, [np.zeros((40, 40), np.uint8)], DinoiserTraining(**SMALL))


def test_pictures_are_read_from_files(teachers: Teachers, tmp_path: Path) -> None:
    files = []
    for number, image in enumerate(PICTURES):
        files.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(files[-1]), image[..., ::-1])
    settings = DinoiserTraining(**SMALL | {"steps": 2})
    assert same(train_dinoiser(teachers, files, settings)[0], train_dinoiser(teachers, PICTURES, settings)[0])
