"""Open-vocabulary figures: held-out pictures, and measures against slow counts."""

import numpy as np
import pytest
import torch

from objloc_ros.backbones.weights import load_clip_image
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.engine.prompts import PromptEncoder
from objloc_ros.evaluation import held_out_prompts
from objloc_ros.evaluation.held_out_prompts import (
    VARIANTS,
    evaluate_crops,
    evaluate_maps,
    make_captioned_scenes,
    make_crops,
)
from objloc_ros.scenes.attributes import KEPT_OUT, SHAPES, AttributeBank
from objloc_ros.types import UNLABELLED

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bank():
    return AttributeBank(9, backgrounds=10, copies=1)


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(("clip_diy", "maskclip"), device="cpu")


def test_scenes_are_the_same_every_time_and_described(bank):
    first, again = (list(make_captioned_scenes(bank, 3)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.objects == other.objects
        assert one.identities.max() <= len(one.objects)


def test_every_second_crop_is_of_a_pair_that_no_training_saw(bank):
    crops = list(make_crops(bank, 12, 64))
    assert [((truth.colour, truth.shape) in KEPT_OUT) for _, truth in crops] == [bool(i % 2) for i in range(12)]
    assert {image.shape for image, _ in crops} == {(64, 64, 3)}


def test_crops_are_called_what_they_are_far_above_chance(bank):
    """The floor is well below the model card's figures; chance is 1/9, 1/4, 1/6 and 1/54."""
    scores = evaluate_crops(load_clip_image(), PromptEncoder("tiny_clip", device=CPU), _crops(bank), CPU)
    floors = {"colour": 0.93, "pattern": 0.45, "shape": 0.88, "pair": 0.85}
    assert {name for name, floor in floors.items() if scores[name] < floor} == set()
    assert scores["unseen_shape"] > 0.85
    assert scores["unseen_pair"] > 0.82


def test_mean_iou_is_that_of_a_slow_count(bank, pipeline):
    scenes = list(make_captioned_scenes(bank, 2))
    name, (method, options) = "MaskCLIP", VARIANTS["MaskCLIP"]
    scores = evaluate_maps(pipeline, scenes, {name: (method, options)})[name]
    pipeline.configure(method, **options)
    labels = pipeline.set_prompts(SHAPES)
    ious = []
    for shape in (None, *SHAPES):
        wanted = UNLABELLED if shape is None else labels.ids[labels.prompts.index(shape)]
        both = either = 0
        for scene in scenes:
            names = [None, *(attributes.shape for attributes in scene.objects)]
            truth = np.array([[names[i] == shape for i in row] for row in scene.identities])
            found = pipeline.run(scene.image, (method,))[method].classes_u8() == wanted
            both += np.count_nonzero(truth & found)
            either += np.count_nonzero(truth | found)
        ious.append(both / max(either, 1))
    assert scores == pytest.approx({"miou": np.mean(ious), "ground": ious[0], "shapes": np.mean(ious[1:])})


def test_found_helps_clip_diy(bank, pipeline):
    rows = {name: VARIANTS[name] for name in ("CLIP-DIY", "window CLIP without FOUND")}
    calls = []
    scores = evaluate_maps(pipeline, list(make_captioned_scenes(bank, 12)), rows, lambda: calls.append(1))
    assert scores["CLIP-DIY"]["miou"] > scores["window CLIP without FOUND"]["miou"] + 0.3
    assert len(calls) == 24


def test_the_published_rows_cover_the_three_methods():
    assert {method for method, _ in VARIANTS.values()} == {"clip_diy", "maskclip", "clip_dinoiser"}
    assert held_out_prompts.CROP_MARGIN > 1


def _crops(bank):
    return list(make_crops(bank, 200, 48))
