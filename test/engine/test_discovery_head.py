"""Patch objects as boxes, scores and instance masks; the heads in a pipeline, alone and over video."""

import numpy as np
import pytest
import torch

from objloc_ros.engine.heads.discovery import METHODS, score_objects
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.engine.results import InstanceResult
from objloc_ros.engine.temporal import Memory
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation.held_out_scenes import make_scenes
from objloc_ros.methods.patch_object import PatchObject
from objloc_ros.ops.geometry import plan


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(tuple(METHODS), device="cpu")


@pytest.fixture(scope="module")
def images():
    return [scene.image for scene in make_scenes(3, seed=21)]


def patches(*cells):
    mask = torch.zeros(3, 4, dtype=torch.bool)
    for cell in cells:
        mask[cell] = True
    return mask


GEOMETRY = plan((20, 30), patch=8, short_side=None)
IMAGE = np.zeros((20, 30, 3), np.uint8)


def keys(*masks):
    """Features that tell each mask from the ground, the first mask better than the next."""
    features = torch.zeros(12, 4)
    features[:, 0] = 1
    for i, mask in enumerate(masks):
        features[mask.flatten()] = torch.nn.functional.one_hot(torch.tensor(i + 1), 4).float()
        features[mask.flatten(), 0] = 0.3 * i
    return features


def score_one(objects, keys, image, geometry):
    (result,) = score_objects([objects], keys[None], [image], [geometry])
    return result


def test_objects_become_boxes_in_the_order_of_their_scores():
    weak, strong = patches((0, 0)), patches((1, 1), (1, 2), (2, 2), (2, 3))
    got = score_one([PatchObject(weak, 0), PatchObject(strong, 5)], keys(strong, weak), IMAGE, GEOMETRY)
    assert got.detections.boxes.tolist() == [[8, 8, 30, 20], [0, 0, 8, 8]]  # clipped to the image
    assert got.detections.scores[0] > got.detections.scores[1] > 0
    assert got.detections.labels == ("object", "object")
    instances = got.instances_u16()
    assert (instances.shape, instances.dtype) == ((20, 30), np.uint16)
    assert (instances[0, 0], instances[9, 9], instances[19, 29], instances[0, 29]) == (2, 1, 1, 0)
    np.testing.assert_array_equal(got.mask_u8() > 0, instances > 0)


def test_what_is_empty_undetermined_or_outside_the_image_is_left_out():
    geometry = plan((16, 24), patch=8, short_side=None)
    objects = [
        PatchObject(patches((2, 3)), 11),  # beyond the 2 x 3 patches of the unpadded image
        PatchObject(patches(), 0),
        PatchObject(patches((0, 0)), 0, degenerate=True),
    ]
    got = score_one(objects, torch.randn(12, 4), np.zeros((16, 24, 3), np.uint8), geometry)
    assert len(got.detections) == 0
    assert not got.instances.any()


def test_the_best_objects_keep_their_numbers():
    cells = [patches((0, i)) for i in range(3)]
    got = score_one([PatchObject(cell, 0) for cell in cells], keys(*cells), IMAGE, GEOMETRY)
    assert got.best(5) is got
    two = got.best(2)
    assert len(two.detections) == 2
    assert np.unique(two.instances).tolist() == [0, 1, 2]
    assert (two.mask == (two.instances > 0)).all()
    threshold = float(got.detections.scores[0])
    assert len(got.best(5, threshold).detections) == (got.detections.scores >= threshold).sum()
    assert len(got.best(5, 1.0).detections) == 0


@pytest.mark.parametrize("post", ["none", "bilateral", "crf"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_in_the_pipeline(pipeline, images, method, post):
    pipeline.configure(method, post=post)
    for image, got in zip(images, pipeline.run(images, (method,)), strict=True):
        found = got[method]
        assert isinstance(found, InstanceResult)
        height, width = image.shape[:2]
        assert found.instances_u16().shape == (height, width)
        assert ((found.detections.boxes >= 0) & (found.detections.boxes <= [width, height, width, height])).all()
        assert len(np.setdiff1d(found.instances, [0])) == len(found.detections)
        assert set(got.heads) == {method}


def test_one_image_is_answered_as_in_a_batch(pipeline, images):
    together = pipeline.run(images)
    for image, expected in zip(images, together, strict=True):
        alone = pipeline.run(image)
        for method in METHODS:
            np.testing.assert_array_equal(alone[method].instances, expected[method].instances)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (500, 7)])
def test_tiny_and_thin_images_are_fine(pipeline, size):
    got = pipeline.run(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    for method in METHODS:
        assert got[method].instances_u16().shape == size


def test_a_plain_image_holds_nothing_that_is_sure_to_be_an_object(pipeline):
    for level in (0, 127, 255):
        got = pipeline.run(np.full((96, 128, 3), level, np.uint8))
        for method in ("tokencut", "maskcut"):
            assert max(got[method].detections.scores, default=0) < 0.25  # objects of scenes have 0.5 and more


def test_following_a_video_starts_with_the_frames_own_answer(pipeline, images):
    for method in METHODS:
        pipeline.configure(method, post="none")
    memories = {method: Memory() for method in METHODS}
    alone, first = pipeline.run(images[0]), pipeline.run(images[0], memories=memories)
    for method in METHODS:
        np.testing.assert_array_equal(first[method].instances, alone[method].instances)
    assert {"pre", "vit", *METHODS} == set(first.timings_ms)
    again = pipeline.run(images[0], ("maskcut",), memories=memories)
    np.testing.assert_array_equal(again["maskcut"].mask, first["maskcut"].mask)


def test_what_cannot_be_followed_is_refused(pipeline, images):
    with pytest.raises(ParameterError, match=r"this pipeline runs .*, not 'found'"):
        pipeline.run(images[0], ("found",), memories={"lost": Memory()})
    with pytest.raises(ParameterError, match="only discovery methods on a backbone follow a video, not 'found'"):
        load_pipeline(("found",), device="cpu").run(images[0], memories={"found": Memory()})
    with pytest.raises(ParameterError, match="not 'cutler'"):
        pipeline.run(images[0], ("cutler",))
    with pytest.raises(InputError):
        pipeline.run(np.zeros((4, 4), np.uint8), memories={"lost": Memory()})
    with pytest.raises(ParameterError, match="post must be one of none, bilateral, crf; got 'median'"):
        pipeline.configure("lost", post="median")


def test_heads_without_a_memory_see_each_frame_alone(images):
    pipeline = load_pipeline(("found", "lost"), device="cpu")
    alone, got = pipeline.run(images[0]), pipeline.run(images[0], memories={"lost": Memory()})
    np.testing.assert_array_equal(got["found"].saliency, alone["found"].saliency)
    assert list(got.heads) == ["found", "lost"]


def test_found_shares_the_pass_with_discovery(images):
    got = load_pipeline(("found", "lost"), device="cpu").run(images[0])
    assert got["found"].saliency.shape == got["lost"].instances.shape
