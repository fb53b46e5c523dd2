"""CLIP-DIY and MaskCLIP as heads of a pipeline: random CLIP weights, so that only the way through them is judged."""

from itertools import product

import numpy as np
import pytest
from segmentation_making import BOTH, PROMPTS, picture, scene

import objloc_ros
from objloc_ros.engine.video_tracker import VideoTracker
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.options import ClipDiyOptions, MaskClipOptions
from objloc_ros.types import UNLABELLED


def agree(one, other):
    """Two results are the same but for pixels whose two best prompts are a matter of rounding."""
    assert one.classes.shape == other.classes.shape
    assert (one.classes != other.classes).mean() < 2e-3
    np.testing.assert_allclose(np.median(np.abs(one.confidence - other.confidence)), 0, atol=1e-4)


@pytest.mark.parametrize("background", ["found", "prompt", "none"])
def test_a_list_gives_what_each_image_gives_alone(load, background):
    pipeline = load(*BOTH, background=background)
    images = [picture(48, 80, 7), picture(50, 50, 2), scene(48, 80)]
    for image, together in zip(images, pipeline.run(images), strict=True):
        alone = pipeline.run(image)
        for method in BOTH:
            agree(together[method], alone[method])
            assert together[method].geometry.source == image.shape[:2]
    assert pipeline.run([]) == []


@pytest.mark.parametrize("background", ["found", "prompt", "none"])
def test_any_size_works(load, background):
    pipeline = load(*BOTH, background=background, min_area=0.0)
    sizes = [(1, 1), (1, 7), (3, 200), (200, 3), (97, 61), (300, 400)]
    for size, method in product(sizes, BOTH):
        found = pipeline.run(picture(*size), (method,))[method]
        assert found.classes_u8().shape == found.confidence_u8().shape == found.mask_u8().shape == size
        assert found.classes_u8().dtype == found.confidence_u8().dtype == np.uint8
        assert set(np.unique(found.classes)) <= {0, 1, 2, UNLABELLED}
        assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
        assert (found.mask == (found.classes != UNLABELLED)).all()
        assert set(found.detections.labels) <= set(PROMPTS)
        assert (found.detections.boxes <= [size[1], size[0]] * 2).all()
        if background == "none":
            assert found.mask.all()
            assert len(found.detections) > 0


def test_clip_diy_works_on_a_square_and_maskclip_on_its_towers_size(load):
    result = load(*BOTH).run(picture(300, 400))
    assert result["clip_diy"].geometry.resized == (256, 256)
    assert result["maskclip"].geometry.resized == (192, 256)
    result = load(*BOTH).run(picture(60, 100))
    assert result["clip_diy"].geometry.resized == (256, 256)
    assert result["maskclip"].geometry.resized == (60, 100)  # never enlarged
    assert result["maskclip"].geometry.padded == (64, 104)


def test_placements_move_the_labels(load):
    pipeline = load("clip_diy", background="none")
    image = picture(90, 130, 8)
    centred = pipeline.run(image)["clip_diy"].classes
    for placement in ("tiled", "nearest"):
        pipeline.configure("clip_diy", placement=placement)
        assert (pipeline.run(image)["clip_diy"].classes != centred).any()
    assert ClipDiyOptions().placement == "centred"


@pytest.mark.parametrize("method", BOTH)
def test_without_prompts_there_is_nothing_to_look_for(load, method):
    pipeline = load(method, prompts=())
    with pytest.raises(ParameterError, match="there are no prompts to look for; give some with set_prompts"):
        pipeline.run(picture(20, 30))
    with pytest.raises(ParameterError, match="no prompts"):
        pipeline.run([picture(20, 30)] * 2)
    pipeline.set_prompts(["red"])
    assert pipeline.run(picture(20, 30))[method].labels.prompts == ("red",)


@pytest.mark.parametrize(
    ("backgrounds", "methods", "passes"),
    [
        (("found", "found"), BOTH, 1),
        (("found", "none"), BOTH, 1),
        (("none", "prompt"), BOTH, 0),
        (("found", "none"), ("maskclip",), 0),
        (("found", "prompt"), ("maskclip",), 0),
        (("none", "found"), ("clip_diy",), 0),
    ],
)
def test_the_backbone_runs_only_for_those_who_read_it(load, backgrounds, methods, passes):
    pipeline = load(*BOTH)
    for method, background in zip(BOTH, backgrounds, strict=True):
        pipeline.configure(method, background=background)
    calls = []
    pipeline.backbone.vit.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    image = picture(40, 56)
    result = pipeline.run(image, methods)
    assert len(calls) == passes
    assert set(result.timings_ms) == {*methods, *(("pre", "vit") if passes else ())}
    calls.clear()
    pipeline.run([image] * 3, methods)
    assert calls == [3] * passes


@pytest.mark.parametrize("background", ["found", "none"])
@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_not_an_image_is_refused_even_without_a_backbone(load, image, background):
    pipeline = load(*BOTH, background=background)
    with pytest.raises(InputError, match="expected"):
        pipeline.run(image)
    with pytest.raises(InputError, match="expected"):
        pipeline.run([image])


@pytest.mark.parametrize("method", BOTH)
def test_labels_follow_the_prompts(load, method):
    pipeline, image = load(method, background="none"), picture(60, 80, 8)
    before = pipeline.run(image)[method]
    assert before.labels.prompts == PROMPTS
    pipeline.set_prompts(PROMPTS[::-1])
    after = pipeline.run(image)[method]
    agree(before, after)  # the same ids for the same prompts
    pipeline.set_prompts([*PROMPTS, "background"])
    assert pipeline.run(image)[method].labels.ids == (0, 1, 2, 3)


@pytest.mark.parametrize("method", BOTH)
def test_a_background_that_was_asked_for_labels_the_ground(load, method):
    pipeline, image = load(method, background="found"), picture(60, 80, 8)
    plain = pipeline.run(image)[method]
    pipeline.set_prompts([*PROMPTS, "background"])
    found = pipeline.run(image)[method]
    assert found.mask.all()
    assert (found.classes[~plain.mask] == 3).all()
    assert "background" not in found.detections.labels


@pytest.mark.parametrize("method", BOTH)
def test_the_threshold_and_the_smallest_region_hold(load, method):
    pipeline, image = load(method, background="none"), picture(60, 80, 8)
    everything = pipeline.run(image)[method]
    level = float(np.median(everything.confidence))
    pipeline.configure(method, threshold=level)
    sure = pipeline.run(image)[method]
    assert (sure.mask == (everything.confidence >= level)).all()
    assert 0.2 < sure.mask.mean() < 0.8
    pipeline.configure(method, threshold=0.0, min_area=1.0)
    whole = pipeline.run(image)[method]
    assert (whole.classes == everything.classes).all()
    assert len(whole.detections) == (1 if len(np.unique(whole.classes)) == 1 else 0)


@pytest.mark.parametrize("method", BOTH)
def test_a_frame_of_a_video_is_an_image(load, method):
    pipeline, image = load(method), picture(60, 80, 8)
    agree(VideoTracker(pipeline, (method,), tracked=())(image)[method], pipeline.run(image)[method])


def test_options_are_checked(load):
    pipeline = load(*BOTH)
    assert isinstance(pipeline.options["maskclip"], MaskClipOptions)
    with pytest.raises(ParameterError, match="maskclip has no such option"):
        pipeline.configure("maskclip", placement="tiled")
    with pytest.raises(ParameterError, match="background must be one of found, prompt, none; got 'sky'"):
        pipeline.configure("clip_diy", background="sky")
    assert pipeline.options["clip_diy"] == ClipDiyOptions()


def test_bfloat16_changes_little(weights, monkeypatch):
    confidences = []
    for units in (False, True):
        for module in ("backbone", "heads.segmentation"):
            monkeypatch.setattr(f"objloc_ros.engine.{module}.has_bfloat16_units", lambda device, units=units: units)
        pipeline = objloc_ros.load_pipeline(BOTH, device="cpu", clip_weights=weights)
        pipeline.set_prompts(PROMPTS)
        pipeline.configure("clip_diy", background="none")
        pipeline.configure("maskclip", background="none")
        confidences.append([pipeline.run(picture(60, 80, 8))[method].confidence for method in BOTH])
    for one, other in zip(*confidences, strict=True):
        assert np.abs(one - other).max() > 0
        assert np.abs(one - other).mean() < 0.03
