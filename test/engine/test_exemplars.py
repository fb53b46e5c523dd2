"""Exemplars in the label map: beside prompts, by every method, whatever the background."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.options import SEGMENTATION
from objloc_ros.types import UNLABELLED

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import exemplars as bench

BOX = (60, 60, 140, 140)


def scene(x, y, side=80, *, thing=True):
    """A chequered square on stripes, and a red disc: RGB uint8 [240, 320, 3]."""
    rgb = np.full((240, 320, 3), 120, np.uint8)
    rgb[::12] = rgb[1::12] = 150
    cv2.circle(rgb, (40, 200), 30, (200, 30, 30), -1)
    if thing:
        cells = np.indices((side, side)).sum(0) // 10 % 2
        rgb[y : y + side, x : x + side] = np.where(cells[..., None], (240, 220, 40), (30, 40, 160))
    return rgb


@pytest.fixture(scope="module")
def pipeline():
    pipeline = load_pipeline(tuple(SEGMENTATION), "tiny", "cpu")
    exemplar = pipeline.learn_exemplar(scene(60, 60), BOX)
    pipeline.use_prompts(pipeline.encode_prompts(["red object", "blue object"], exemplars={"board": exemplar}))
    return pipeline


@pytest.mark.parametrize("method", SEGMENTATION)
@pytest.mark.parametrize("background", ["found", "prompt", "none"])
def test_every_method_finds_it_elsewhere(pipeline, method, background):
    assert pipeline.labels.names() == {0: "red object", 1: "blue object", 2: "board"}
    pipeline.configure(method, background=background)
    result = pipeline.run(scene(180, 100), [method])[method]
    found = result.label_map() == 2
    truth = np.zeros_like(found)
    truth[100:180, 180:260] = True
    assert (found & truth).sum() / (found | truth).sum() > 0.6
    (box,) = [
        box for box, label in zip(result.detections.boxes, result.detections.labels, strict=True) if label == "board"
    ]
    assert np.abs(box - (180, 100, 260, 180)).max() < 20
    assert (pipeline.run(scene(0, 0, thing=False), [method])[method].label_map() != 2).all()


def test_it_is_not_found_where_nothing_is_looked_for(pipeline):
    pipeline.ignore = "0.5,0.3 0.9,0.3 0.9,0.8 0.5,0.8"
    assert (pipeline.run(scene(180, 100), ["maskclip"])["maskclip"].label_map() != 2).all()
    pipeline.ignore = ""


def test_a_batch_is_answered_like_its_images(pipeline):
    images = [scene(180, 100), scene(20, 20), scene(0, 0, thing=False)]
    together = pipeline.run(images, ["clip_diy"])
    for image, result in zip(images, together, strict=True):
        alone = pipeline.run(image, ["clip_diy"])["clip_diy"]
        assert (alone.label_map() == result["clip_diy"].label_map()).mean() > 0.999


def test_it_can_be_forgotten_and_prompts_keep_their_ids(pipeline):
    exemplar = pipeline.learn_exemplar(scene(60, 60), BOX)
    pipeline.use_prompts(pipeline.encode_prompts(["blue object"], exemplars={"board": exemplar}))
    assert pipeline.labels.names() == {1: "blue object", 2: "board"}
    pipeline.set_prompts(["blue object", "red object"])
    assert pipeline.labels.names()[1] == "blue object"
    assert "board" not in pipeline.labels.prompts
    pipeline.configure("maskclip", background="found", threshold=1.0)
    assert (pipeline.run(scene(180, 100), ["maskclip"])["maskclip"].label_map() == UNLABELLED).all()
    pipeline.use_prompts(pipeline.encode_prompts(["red object", "blue object"], exemplars={"board": exemplar}))
    pipeline.configure("maskclip", threshold=0.0)


def test_its_name_is_no_prompt_whose_words_must_be_known(pipeline):
    exemplar = pipeline.learn_exemplar(scene(60, 60), BOX)
    pipeline.use_prompts(pipeline.encode_prompts(["red qwxz"], exemplars={"flurb": exemplar}))
    assert pipeline.unknown_words() == ["qwxz"]


def test_a_name_that_is_a_prompt_is_refused(pipeline):
    exemplar = pipeline.learn_exemplar(scene(60, 60), BOX)
    encoded = pipeline.encode_prompts(["board"], exemplars={"Board": exemplar})
    with pytest.raises(ParameterError, match="different, got 'board' and 'Board'"):
        pipeline.use_prompts(encoded)


def test_a_tiny_box_stands_for_its_patch(pipeline):
    exemplar = pipeline.learn_exemplar(scene(60, 60), (100, 100, 101, 101))
    assert len(exemplar.shown) == 1


def test_a_box_of_everything_is_refused(pipeline):
    with pytest.raises(InputError, match="around it"):
        pipeline.learn_exemplar(scene(60, 60), (0, 0, 320, 240))


def test_things_of_a_few_videos_are_found_again_as_the_documents_say():
    scores = bench.score(load_pipeline(("maskclip",), "tiny", "cpu"), bench.make_frames("motion", 3))
    assert scores["frames"] > 10
    assert min(scores["precision"], scores["recall"], scores["mask IoU"]) > 0.6


def test_the_study_counts_hits_and_regions():
    truth, found = np.zeros((2, 100, 100), bool)
    assert bench.match(found, truth) == (0, 0)
    truth[10:30, 10:30] = True
    found[12:32, 10:30] = found[60:80, 60:80] = found[90, 90] = True  # a hit, another region, a speck
    assert bench.match(found, truth) == (1, 2)
    assert bench.match(found, truth[::-1]) == (0, 2)
