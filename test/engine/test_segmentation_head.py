"""CLIP-DIY and MaskCLIP as heads of a pipeline: random CLIP weights, so that only the way through them is judged."""

from itertools import product

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

import objloc_ros
from objloc_ros.backbones.clip import CLIP_MEAN, CLIP_STD, build_clip_image, build_text_transformer
from objloc_ros.backbones.clip_weights import load_clip_image
from objloc_ros.backbones.tokens import SPECIAL, byte_pairs
from objloc_ros.engine.segmentation import METHODS, ClipDiyOptions, MaskClipOptions
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.maskclip import value_features
from objloc_ros.types import UNLABELLED

BOTH = ("clip_diy", "maskclip")
PROMPTS = ("red circle", "blue triangle", "the photo")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the embedded CLIP pair's layout, which tell images and prompts apart.

    Random towers embed everything in one direction; what all images have in common is taken out of the projection.
    """
    torch.manual_seed(0)
    tower = build_clip_image("tiny_clip").eval().requires_grad_(False)
    normed = []
    hook = tower.visual.ln_post.register_forward_hook(lambda module, inputs, output: normed.append(output))
    images = torch.cat([normalised(picture(48, 48, seed)) for seed in range(16)])
    tower(images)
    value_features(tower, tower.tokens(images))
    hook.remove()
    common, _ = torch.linalg.qr(torch.stack([normed[0].mean(0), normed[1].mean((0, 1))], dim=1))
    tower.visual.proj -= common @ (common.T @ tower.visual.proj)
    known = torch.tensor(sorted(byte_pairs().encode("a background blue circle of photo red the triangle")))
    state = {f"visual.{key}": value for key, value in tower.visual.state_dict().items()}
    state |= build_text_transformer("tiny_clip", len(known) + SPECIAL).state_dict()
    state["token_embedding.weight"] *= 50
    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file({key: value.clone() for key, value in state.items()} | {"known_tokens": known}, path)
    return path


@pytest.fixture
def single(monkeypatch):
    """Single precision, whatever this machine's CPU prefers: only then are two ways of computing comparable."""
    for module in ("backbone", "segmentation"):
        monkeypatch.setattr(f"objloc_ros.engine.{module}.has_bfloat16_units", lambda device: False)


@pytest.fixture
def load(weights, single):
    """Make a pipeline; with prompts unless told otherwise."""

    def make(*methods, prompts=PROMPTS, **options):
        pipeline = objloc_ros.load_pipeline(methods, device="cpu", clip_weights=weights)
        for method in methods:
            if method in METHODS:
                pipeline.configure(method, **options)
        if prompts:
            pipeline.set_prompts(prompts)
        return pipeline

    return make


def picture(height, width, seed=0):
    """Patches of colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def scene(height, width):
    """Two squares on a dark ground."""
    rgb = np.full((height, width, 3), 40, np.uint8)
    rgb[height // 6 : height // 2, width // 8 : width // 2] = (207, 22, 45)
    rgb[height // 2 : height * 5 // 6, width * 5 // 8 : width * 7 // 8] = (60, 200, 90)
    return rgb


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


def normalised(rgb):
    """float32 [1, 3, H, W] of RGB values in [0, 255]."""
    mean, std = np.array(CLIP_MEAN, np.float32), np.array(CLIP_STD, np.float32)
    return torch.from_numpy(((rgb.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1))[None]


@torch.inference_mode()
def diy_maps(weights, image, texts):
    """CLIP-DIY's cosines, window by window and tiled: float32 [C, 256, 256]."""
    tower = load_clip_image("tiny_clip", path=weights)
    square = cv2.resize(image, (256, 256), interpolation=cv2.INTER_LINEAR)
    total = torch.zeros(len(texts), 256, 256)
    for side in (256, 128, 64):
        per_row = {256: 1, 128: 3, 64: 7}[side]
        grid = torch.zeros(1, len(texts), per_row, per_row)
        for row in range(per_row):
            for column in range(per_row):
                y, x = row * side // 2, column * side // 2
                window = torch.from_numpy(square[y : y + side, x : x + side].copy()).permute(2, 0, 1)[None]
                small = (
                    F.interpolate(window, (tower.side, tower.side), mode="bicubic", antialias=True)[0]
                    .permute(1, 2, 0)
                    .numpy()
                )
                grid[0, :, row, column] = F.cosine_similarity(tower(normalised(small)), texts, dim=1)
        total += F.interpolate(grid, (256, 256), mode="bilinear", align_corners=False)[0]
    return total / 3


@torch.inference_mode()
def maskclip_maps(weights, image, texts):
    """MaskCLIP's cosines of an image that needs no scaling: float32 [C, h, w]."""
    tower = load_clip_image("tiny_clip", path=weights)
    height, width = image.shape[:2]
    black = np.zeros((-(-height // 8) * 8, -(-width // 8) * 8, 3), np.uint8)
    black[:height, :width] = image
    tokens = tower.tokens(normalised(black))
    features = value_features(tower, tokens)[0]
    cosines = torch.stack([F.cosine_similarity(features, text[None], dim=1) for text in texts])
    fine = F.interpolate(cosines.view(1, len(texts), *tokens.grid), black.shape[:2], mode="bilinear")
    return fine[0, :, :height, :width]


@pytest.mark.parametrize("method", BOTH)
def test_without_a_background_the_best_prompt_wins(load, weights, method):
    image = picture(90, 130, 8)
    pipeline = load(method, background="none", **({"placement": "tiled"} if method == "clip_diy" else {}))
    found = pipeline.run(image)[method]
    texts = pipeline.encode_prompts(PROMPTS).texts
    maps = (diy_maps if method == "clip_diy" else maskclip_maps)(weights, image, texts)[1:]
    assert len(np.unique(found.classes)) > 1
    assert (found.classes == maps.argmax(0).numpy()).mean() > 0.998
    np.testing.assert_allclose(found.confidence, (100 * maps).softmax(0).amax(0), atol=2e-3)


@pytest.mark.parametrize("method", BOTH)
def test_founds_saliency_decides_between_prompts_and_ground(load, weights, method):
    """The embedded model's cosines may be negative, so that (1 + cosine) / 2 is weighed."""
    image = scene(90, 130)
    pipeline = load("found", method, **({"placement": "tiled"} if method == "clip_diy" else {}))
    result = pipeline.run(image)
    found, saliency = result[method], result["found"].saliency
    maps = (diy_maps if method == "clip_diy" else maskclip_maps)(weights, image, pipeline.encode_prompts(PROMPTS).texts)
    resized = cv2.resize(saliency, maps.shape[:0:-1], interpolation=cv2.INTER_LINEAR)
    fitting = (1 + maps.numpy()) / 2 * resized
    fitting[0] = (1 + maps[0].numpy()) / 2 * (1 - resized)
    expected = np.array([UNLABELLED, 0, 1, 2])[fitting.argmax(0)]
    assert len(np.unique(expected)) > 2
    assert (found.classes == expected).mean() > 0.995


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
    agree(pipeline.follow(image, {}, (method,))[method], pipeline.run(image)[method])


def test_options_are_checked(load):
    pipeline = load(*BOTH)
    assert isinstance(pipeline.options["maskclip"], MaskClipOptions)
    with pytest.raises(ParameterError, match="maskclip has no such option"):
        pipeline.configure("maskclip", placement="tiled")
    with pytest.raises(ParameterError, match="background must be found, prompt or none, got 'sky'"):
        pipeline.configure("clip_diy", background="sky")
    assert pipeline.options["clip_diy"] == ClipDiyOptions()


def test_bfloat16_changes_little(weights, monkeypatch):
    confidences = []
    for units in (False, True):
        for module in ("backbone", "segmentation"):
            monkeypatch.setattr(f"objloc_ros.engine.{module}.has_bfloat16_units", lambda device, units=units: units)
        pipeline = objloc_ros.load_pipeline(BOTH, device="cpu", clip_weights=weights)
        pipeline.set_prompts(PROMPTS)
        pipeline.configure("clip_diy", background="none")
        pipeline.configure("maskclip", background="none")
        confidences.append([pipeline.run(picture(60, 80, 8))[method].confidence for method in BOTH])
    for one, other in zip(*confidences, strict=True):
        assert np.abs(one - other).max() > 0
        assert np.abs(one - other).mean() < 0.03
