"""CLIP's image tower against open_clip's own model, and what it gives before its last block."""

import math

import open_clip
import pytest
import torch
from open_clip.model import CLIP

from objloc_ros.backbones import clip
from objloc_ros.backbones.clip import CLIP_SPECS, ClipSpec, build_clip_image, build_text_transformer
from objloc_ros.errors import InputError, ParameterError

SMALL = {
    "patch": 4,
    "side": 16,
    "width": 24,
    "layers": 4,
    "heads": 3,
    "embed_dim": 10,
    "text_width": 16,
    "text_layers": 2,
    "text_heads": 2,
    "context": 12,
}
VOCABULARY = 40
OPEN_CLIP = {
    "clip_vitb32": ("ViT-B-32", "laion2b_s34b_b79k"),
    "clip_vitb16": ("ViT-B-16", "laion2b_s34b_b88k"),
    "clip_vitb32_openai": ("ViT-B-32-quickgelu", "openai"),
    "clip_vitb16_openai": ("ViT-B-16-quickgelu", "openai"),
}
"""Our names, and open_clip's of the model and its weights."""


def theirs(spec):
    """open_clip's CLIP of this architecture, every parameter random."""
    model = CLIP(
        spec.embed_dim,
        vision_cfg={
            "image_size": spec.side,
            "patch_size": spec.patch,
            "width": spec.width,
            "layers": spec.layers,
            "head_width": spec.width // spec.heads,
        },
        text_cfg={
            "context_length": spec.context,
            "vocab_size": VOCABULARY,
            "width": spec.text_width,
            "layers": spec.text_layers,
            "heads": spec.text_heads,
        },
        quick_gelu=spec.quick_gelu,
    )
    return randomised(model)


def randomised(model):
    """Layer norms and biases that do something, so that leaving one out shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval().requires_grad_(False)


@pytest.fixture(params=[False, True], ids=["gelu", "quick gelu"])
def pair(request, monkeypatch):
    """Our image tower and open_clip's model with the same weights."""
    torch.manual_seed(0)
    monkeypatch.setitem(CLIP_SPECS, "small", ClipSpec(**SMALL, quick_gelu=request.param))
    reference = theirs(CLIP_SPECS["small"])
    tower = build_clip_image("small").eval().requires_grad_(False)
    tower.visual.load_state_dict(reference.visual.state_dict())
    return tower, reference


def pictures(height, width, count=2, seed=0):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_an_image_is_embedded_as_open_clip_embeds_it(pair):
    tower, reference = pair
    embedded = tower(pictures(16, 16))
    assert embedded.shape == (2, 10)
    assert embedded.dtype == torch.float32
    torch.testing.assert_close(embedded, reference.encode_image(pictures(16, 16)), rtol=1e-5, atol=1e-5)
    assert (embedded.norm(dim=1) - 1).abs().min() > 0.1  # not normalised


def test_the_two_activations_differ(monkeypatch):
    embedded = []
    for quick in (False, True):
        torch.manual_seed(0)
        monkeypatch.setitem(CLIP_SPECS, "small", ClipSpec(**SMALL, quick_gelu=quick))
        embedded.append(randomised(build_clip_image("small"))(pictures(16, 16)))
    assert (embedded[0] - embedded[1]).abs().max() > 1e-3


def test_tokens_are_what_enters_open_clips_last_block_and_third_last_mlp(pair):
    tower, reference = pair
    seen = {}
    blocks = reference.visual.transformer.resblocks
    blocks[-1].register_forward_pre_hook(lambda module, inputs: seen.update(last=inputs[0]))
    blocks[-3].ln_2.register_forward_hook(lambda module, inputs, output: seen.update(middle=output))
    reference.encode_image(pictures(16, 16))
    tokens = tower.tokens(pictures(16, 16))
    assert tokens.grid == (4, 4)
    assert tokens.last.shape == (2, 17, 24)
    torch.testing.assert_close(tokens.last, seen["last"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tokens.middle, seen["middle"][:, 1:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["small", "tiny_clip"])
def test_the_rest_of_the_tower_makes_the_embedding_of_the_tokens(name, monkeypatch):
    monkeypatch.setitem(CLIP_SPECS, "small", ClipSpec(**SMALL))
    torch.manual_seed(0)
    tower = randomised(build_clip_image(name))
    images = pictures(tower.side, tower.side)
    last = tower.visual.transformer.resblocks[-1](tower.tokens(images).last)
    embedded = tower.visual.ln_post(last[:, 0]) @ tower.visual.proj
    torch.testing.assert_close(embedded, tower(images), rtol=1e-4, atol=1e-4)
    assert tower(images).shape == (2, tower.embed_dim)


def cubic(x, a=-0.75):
    """PyTorch's kernel of bicubic interpolation."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def resampling(before, after):
    """Weights [after, before] of bicubic interpolation along one side, edges repeated."""
    weights = torch.zeros(after, before)
    for i in range(after):
        at = (i + 0.5) * before / after - 0.5
        for tap in range(math.floor(at) - 1, math.floor(at) + 3):
            weights[i, min(max(tap, 0), before - 1)] += cubic(at - tap)
    return weights


@pytest.mark.parametrize("grid", [(4, 4), (3, 6), (8, 8), (1, 1), (1, 9)])
def test_the_position_embedding_is_resampled_to_the_grid(pair, grid):
    tower, _ = pair
    images = pictures(4 * grid[0], 4 * grid[1], count=1)
    entering = []
    tower.visual.ln_pre.register_forward_hook(lambda module, inputs, output: entering.append(inputs[0]))
    assert tower.tokens(images).grid == grid
    table = tower.visual.positional_embedding
    patches = tower.visual.conv1(images)[0]
    rows, columns = (resampling(4, side) for side in grid)
    for channel in range(24):
        sampled = rows @ table[1:, channel].view(4, 4) @ columns.T
        added = entering[0][0, 1:, channel].view(grid) - patches[channel]
        torch.testing.assert_close(added, sampled, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(entering[0][0, 0], tower.visual.class_embedding + table[0])


def test_other_sizes_leave_the_parameter_and_later_answers_untouched(pair):
    tower, _ = pair
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    first = tower.tokens(pictures(16, 16)).last
    tower.tokens(pictures(8, 40))
    assert torch.equal(tower.tokens(pictures(16, 16)).last, first)
    for key, value in tower.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_images_of_a_batch_do_not_see_each_other(pair):
    tower, _ = pair
    images = pictures(12, 20, count=3)
    together = tower.tokens(images)
    for i in range(3):
        alone = tower.tokens(images[i : i + 1])
        torch.testing.assert_close(together.last[i], alone.last[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(together.middle[i], alone.middle[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(15, 16), (16, 17), (0, 16), (16, 0), (2, 16), (3, 3)])
def test_sides_must_be_multiples_of_the_patch(pair, height, width):
    with pytest.raises(InputError, match=rf"positive multiples of the patch size 4, got {width}x{height}"):
        pair[0].tokens(torch.zeros(1, 3, height, width))


def test_every_large_model_has_a_counterpart():
    assert set(CLIP_SPECS) - set(OPEN_CLIP) == {"tiny_clip"}


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_architectures_are_those_of_open_clip(name):
    spec, config = CLIP_SPECS[name], open_clip.get_model_config(OPEN_CLIP[name][0])
    vision, text = config["vision_cfg"], config["text_cfg"]
    assert spec.embed_dim == config["embed_dim"]
    assert (spec.patch, spec.side, spec.width, spec.layers) == tuple(
        vision[key] for key in ("patch_size", "image_size", "width", "layers")
    )
    assert spec.heads == vision["width"] // 64  # open_clip's width of a head where a config names none
    assert (spec.context, spec.text_width, spec.text_layers, spec.text_heads) == tuple(
        text[key] for key in ("context_length", "width", "layers", "heads")
    )
    assert spec.quick_gelu == config.get("quick_gelu", False)
    assert not spec.compact
    assert not spec.signed
    weights = open_clip.get_pretrained_cfg(*OPEN_CLIP[name])
    assert (weights["mean"], weights["std"]) == (clip.CLIP_MEAN, clip.CLIP_STD)
    assert spec.quick_gelu == weights.get("quick_gelu", False)


@pytest.mark.parametrize("name", ["clip_vitb32", "clip_vitb16"])
def test_both_towers_have_the_parameters_of_open_clips_model(name):
    """On the meta device: shapes without memory."""
    with torch.device("meta"):
        config = open_clip.get_model_config(OPEN_CLIP[name][0])
        expected = {key: value.shape for key, value in CLIP(**config).state_dict().items()}
        image, text = build_clip_image(name), build_text_transformer(name)
    ours = {f"visual.{key}": value.shape for key, value in image.visual.state_dict().items()}
    ours |= {key: value.shape for key, value in text.state_dict().items()}
    assert expected.pop("logit_scale") == ()
    assert ours == expected


@pytest.mark.parametrize("build", [build_clip_image, build_text_transformer, clip.find_clip_spec])
def test_an_unknown_model_is_named(build):
    with pytest.raises(ParameterError, match="unknown CLIP model 'clip_rn50'; known: clip_vitb32, "):
        build("clip_rn50")
