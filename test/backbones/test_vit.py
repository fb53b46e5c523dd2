"""The ViT read at its last block, against the same transformer written out literally."""

import math
import sys
from pathlib import Path

import pytest
import torch
from timm.layers import resample_abs_pos_embed

from objloc_ros.backbones.positions import dino_pos_embed, sized_pos_embed
from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.vit import attend_from_cls, build_vit
from objloc_ros.errors import InputError, ParameterError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
from literal import vit_keys


@pytest.fixture(scope="module", params=["dino_vits16", "dino_vits8"])
def small(request):
    torch.manual_seed(0)
    model = build_vit(request.param).eval()
    torch.nn.init.normal_(model.vit.pos_embed, std=0.5)
    return model


@torch.inference_mode()
def test_facets_equal_those_of_the_literal_pass(small):
    images = torch.randn(2, 3, 3 * small.patch, 5 * small.patch)
    features = small(images)
    keys, attention = vit_keys(small.vit, images, dino_pos_embed(small.vit.pos_embed, (3, 5)))
    assert features.grid == (3, 5)
    torch.testing.assert_close(features.keys, keys, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(features.cls_attention, attention[:, :, 0, 1:], atol=1e-6, rtol=1e-4)


@torch.inference_mode()
def test_queries_and_values_are_the_other_thirds_of_the_projection(small):
    images = torch.randn(1, 3, 2 * small.patch, 2 * small.patch)
    projected = []
    hook = small.vit.blocks[-1].attn.qkv.register_forward_hook(lambda module, inputs, output: projected.append(output))
    features = small(images)
    hook.remove()
    for i, facet in enumerate((features.queries, features.keys, features.values)):
        width = small.embed_dim
        torch.testing.assert_close(facet, projected[0][:, 1:, i * width : (i + 1) * width])


@torch.inference_mode()
def test_the_last_block_is_not_run_further_than_its_projection(small):
    def forbidden(*args):
        raise AssertionError("the last block's output is not needed")

    last = small.vit.blocks[-1]
    hooks = [module.register_forward_hook(forbidden) for module in (last.attn.proj, last.mlp, last.norm2)]
    small(torch.randn(1, 3, 2 * small.patch, 2 * small.patch))
    for hook in hooks:
        hook.remove()


@torch.inference_mode()
def test_the_cls_token_is_that_of_the_whole_transformer(small):
    images = torch.randn(2, 3, small.spec.base, small.spec.base)
    torch.testing.assert_close(small.encode_cls(images), small.vit.forward_features(images)[:, 0])


def test_attention_from_cls_keeps_the_mass_of_the_dropped_column_out():
    q = torch.zeros(1, 4, 2, 3)
    k = torch.zeros(1, 4, 2, 3)
    torch.testing.assert_close(attend_from_cls(q, k), torch.full((1, 2, 3), 0.25))


def test_dino_position_embedding_is_the_table_itself_on_its_own_grid():
    table = torch.randn(1, 1 + 14 * 14, 8)
    assert dino_pos_embed(table, (14, 14)) is table
    assert sized_pos_embed(table, (14, 14)) is table


@pytest.mark.parametrize("grid", [(30, 40), (7, 9), (14, 15), (1, 1), (28, 28)])
def test_dino_position_embedding_differs_from_size_based_resampling(grid):
    table = torch.randn(1, 1 + 14 * 14, 8, generator=torch.Generator().manual_seed(0))
    dino, sized = dino_pos_embed(table, grid), sized_pos_embed(table, grid)
    assert dino.shape == sized.shape == (1, 1 + grid[0] * grid[1], 8)
    torch.testing.assert_close(dino[:, 0], table[:, 0])
    assert (dino - sized).abs().max() > 1e-3


def bicubic_row(values, scale, count):
    """Sample a row of numbers with PyTorch's cubic kernel (a = -0.75) at (i + 0.5) / scale - 0.5, edges repeated."""

    def kernel(x, a=-0.75):
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    sampled = []
    for i in range(count):
        at = (i + 0.5) / scale - 0.5
        taps = range(math.floor(at) - 1, math.floor(at) + 3)
        sampled.append(sum(kernel(at - j) * values[min(max(j, 0), len(values) - 1)] for j in taps))
    return sampled


def test_dino_position_embedding_samples_with_the_given_factor():
    row = torch.randn(14, generator=torch.Generator().manual_seed(0))
    table = torch.cat([torch.zeros(1, 1, 1), row.expand(14, 14).reshape(1, 196, 1)], dim=1)
    sampled = dino_pos_embed(table, (14, 40))[0, 1:, 0].view(14, 40)[7]
    torch.testing.assert_close(sampled, torch.tensor(bicubic_row(row.tolist(), 40.1 / 14, 40)), atol=1e-4, rtol=0)
    assert (sampled - torch.tensor(bicubic_row(row.tolist(), 40 / 14, 40))).abs().max() > 1e-2


def test_timm_resamples_otherwise():
    table = torch.randn(1, 1 + 14 * 14, 8)
    ours, timms = dino_pos_embed(table, (30, 40)), resample_abs_pos_embed(table, [30, 40], num_prefix_tokens=1)
    assert (ours - timms).abs().mean() > 1e-2


@pytest.mark.parametrize("size", [(15, 16), (0, 16), (16, 17)])
def test_sides_must_be_multiples_of_the_patch(small, size):
    with pytest.raises(InputError, match=f"multiples of the patch size {small.patch}"):
        small(torch.zeros(1, 3, *size))


def test_unknown_backbone_is_named():
    with pytest.raises(ParameterError, match="unknown backbone 'dino'"):
        build_vit("dino")


@pytest.mark.parametrize(("name", "millions"), [("dino_vits16", 21.7), ("dino_vits8", 21.7), ("tiny", 3.5)])
def test_size_of_the_backbones(name, millions):
    count = sum(parameter.numel() for parameter in build_vit(name).parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.15)


@pytest.mark.parametrize("name", SPECS)
def test_heads_divide_the_width(name):
    assert SPECS[name].embed_dim % SPECS[name].n_heads == 0
