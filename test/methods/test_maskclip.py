"""MaskCLIP's value path against loops over tokens, and against a block whose attention sees nothing else."""

import pytest
import torch

from objloc_ros.backbones.clip import CLIP_SPECS, ClipSpec, build_clip_image
from objloc_ros.methods.maskclip import value_features

SMALL = {"patch": 4, "side": 16, "width": 12, "layers": 3, "heads": 3, "embed_dim": 7}


@pytest.fixture(params=[False, True], ids=["gelu", "quick gelu"])
def tower(request, monkeypatch):
    """A small tower, every parameter random."""
    torch.manual_seed(0)
    monkeypatch.setitem(CLIP_SPECS, "small", ClipSpec(**SMALL, quick_gelu=request.param))
    model = build_clip_image("small").eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@pytest.fixture
def tokens(tower):
    return tower.tokens(torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(1)))


def layer_norm(x, norm):
    centred = x - x.mean()
    return centred / (centred.square().mean() + 1e-5).sqrt() * norm.weight + norm.bias


def times(matrix, x, bias):
    return torch.stack([row @ x + b for row, b in zip(matrix, bias, strict=True)])


def activated(x, quick):
    """The two GELUs by their formulas."""
    return x / (1 + (-1.702 * x).exp()) if quick else x * (1 + (x / 2**0.5).erf()) / 2


def by_hand(tower, x):
    """One token of the last block's input through the value path: y = LN(x); v = W_o (W_v y + b_v) + b_o; and so on."""
    visual = tower.visual
    block = visual.transformer.resblocks[-1]
    width = len(x)
    y = layer_norm(x, block.ln_1)
    v = times(block.attn.in_proj_weight[2 * width :], y, block.attn.in_proj_bias[2 * width :])
    v = times(block.attn.out_proj.weight, v, block.attn.out_proj.bias)
    v = v + x
    hidden = times(block.mlp.c_fc.weight, layer_norm(v, block.ln_2), block.mlp.c_fc.bias)
    v = v + times(block.mlp.c_proj.weight, activated(hidden, tower.spec.quick_gelu), block.mlp.c_proj.bias)
    v = layer_norm(v, visual.ln_post)
    return torch.stack([v @ visual.proj[:, i] for i in range(visual.proj.shape[1])])


def test_every_patch_takes_the_value_path(tower, tokens):
    features = value_features(tower, tokens)
    assert features.shape == (2, 6, 7)
    assert features.dtype == torch.float32
    for image in range(2):
        for patch in range(6):
            expected = by_hand(tower, tokens.last[image, 1 + patch])
            torch.testing.assert_close(features[image, patch], expected, rtol=1e-4, atol=1e-5)


def test_a_patch_that_is_alone_attends_to_itself(tower, tokens):
    """Over a single token the softmax is 1: the ordinary block is the value path."""
    block, features = tower.visual.transformer.resblocks[-1], value_features(tower, tokens)
    for patch in range(6):
        alone = block(tokens.last[:, 1 + patch : 2 + patch])[:, 0]
        torch.testing.assert_close(
            features[:, patch], tower.visual.ln_post(alone) @ tower.visual.proj, rtol=1e-4, atol=1e-5
        )


def test_attention_forced_to_the_identity_is_the_value_path(tower, tokens):
    mask = torch.full((7, 7), float("-inf")).fill_diagonal_(0.0)
    out = tower.visual.transformer.resblocks[-1](tokens.last, attn_mask=mask)[:, 1:]
    expected = tower.visual.ln_post(out) @ tower.visual.proj
    torch.testing.assert_close(value_features(tower, tokens), expected, rtol=1e-4, atol=1e-5)
    mixed = tower.visual.ln_post(tower.visual.transformer.resblocks[-1](tokens.last)[:, 1:]) @ tower.visual.proj
    assert (mixed - expected).abs().max() > 1e-2  # the attention would have changed something


def test_patches_and_the_cls_token_do_not_see_each_other(tower, tokens):
    changed = tokens.last.clone()
    changed[:, [0, 3]] += torch.randn(2, 12, generator=torch.Generator().manual_seed(2))
    before, after = (value_features(tower, tokens._replace(last=last)) for last in (tokens.last, changed))
    differs = (before - after).abs().amax((0, 2)) > 1e-3
    assert differs.tolist() == [False, False, True, False, False, False]


def test_features_are_not_normalised_and_the_tokens_are_left_alone(tower, tokens):
    before = tokens.last.clone()
    features = value_features(tower, tokens)
    assert (features.norm(dim=-1) - 1).abs().min() > 1e-3
    assert torch.equal(tokens.last, before)


@pytest.mark.parametrize("size", [(4, 4), (8, 28), (40, 16)])
def test_there_is_a_feature_for_every_patch(tower, size):
    seen = tower.tokens(torch.zeros(1, 3, *size))
    assert value_features(tower, seen).shape == (1, size[0] * size[1] // 16, 7)


def test_layer_scales_are_applied(tower, tokens):
    """open_clip's blocks may scale their two branches; CLIP's do not."""
    block = tower.visual.transformer.resblocks[-1]
    for name, norm in (("ls_1", block.ln_1), ("ls_2", block.ln_2)):
        assert isinstance(getattr(block, name), torch.nn.Identity), name
        assert norm.eps == 1e-5
    block.ls_1, block.ls_2 = _Scale(0.0), _Scale(0.0)
    expected = tower.visual.ln_post(tokens.last[:, 1:]) @ tower.visual.proj
    torch.testing.assert_close(value_features(tower, tokens), expected)


class _Scale(torch.nn.Module):
    """Multiplication by a number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x
