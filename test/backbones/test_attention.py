"""Attention by products in bfloat16, held against float64 sums written out."""

import math

import pytest
import torch
from timm.models.vision_transformer import Attention as TimmAttention
from torch import Tensor

from objloc_ros.backbones import attention
from objloc_ros.backbones.attention import Attention, attend


def random_qkv(batch: int, heads: int, tokens: int, width: int, scale: float = 1.0) -> list[Tensor]:
    """As a projection makes them: views of one tensor, bfloat16 [B, heads, N, d]."""
    generator = torch.Generator().manual_seed(tokens)
    qkv = torch.randn(batch, tokens, 3, heads, width, generator=generator) * scale
    return list(qkv.bfloat16().permute(2, 0, 3, 1, 4).unbind(0))


def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Float64, one query at a time."""
    q, k, v = q.double(), k.double(), v.double()
    mixed = torch.empty_like(q)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for n in range(q.shape[2]):
                weights = torch.exp((k[b, h] * q[b, h, n]).sum(1) / math.sqrt(q.shape[3]))
                mixed[b, h, n] = (weights[:, None] * v[b, h]).sum(0) / weights.sum()
    return mixed


def relative_error(answer: Tensor, truth: Tensor) -> float:
    return float((answer.double() - truth).norm() / truth.norm())


@pytest.mark.parametrize(
    ("batch", "heads", "tokens", "width"), [(1, 1, 256, 8), (2, 3, 257, 32), (1, 2, 300, 64), (1, 1, 40, 8)]
)
@torch.no_grad()
def test_equals_the_sums(batch: int, heads: int, tokens: int, width: int) -> None:
    qkv = random_qkv(batch, heads, tokens, width)
    answer = attend(*qkv)
    assert answer.shape == (batch, heads, tokens, width)
    assert answer.dtype == torch.bfloat16
    assert relative_error(answer, written_out(*qkv)) < 0.01


@pytest.mark.parametrize("most", [1, 300, 700, 299 * 300, 300 * 300, 2 * 300 * 300, 5 * 300 * 300])
@torch.no_grad()
def test_how_much_is_done_at_a_time_does_not_matter(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    q, k, v = random_qkv(1, 3, 300, 16)
    whole = attend(q, k, v)
    monkeypatch.setattr(attention, "MAX_SCORES", most)
    torch.testing.assert_close(attend(q, k, v).float(), whole.float(), rtol=0.02, atol=0.005)


@torch.no_grad()
def test_large_scores_do_not_overflow() -> None:
    """exp(400) is beyond float32: the greatest score has to be taken off before."""
    q, k, v = random_qkv(1, 1, 256, 16, scale=20.0)
    assert float((q.float() @ k.float().mT).max()) / 4 > 400
    answer = attend(q, k, v)
    assert bool(answer.isfinite().all())
    exact = torch.softmax(q.double() @ k.double().mT / 4, -1) @ v.double()
    assert relative_error(answer, exact) < 0.3  # of scores of 400, bfloat16 keeps two units


def test_gradients_pass() -> None:
    """Through training, PyTorch's own kernel is used."""
    q, k, v = (each.requires_grad_() for each in random_qkv(1, 1, 256, 8))
    attend(q, k, v).float().sum().backward()
    assert q.grad is not None
    assert v.grad is not None
    torch.testing.assert_close(float(v.grad.float().sum()), 256.0 * 8, rtol=0.01, atol=0)


def test_float32_is_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Tensor) -> None:
        raise AssertionError("products are for bfloat16")

    monkeypatch.setattr(attention, "_mix", refuse)
    q, k, v = (each.float() for each in random_qkv(1, 2, 300, 16))
    with torch.inference_mode():
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        assert torch.equal(attend(q, k, v), expected)
        with pytest.raises(AssertionError, match="for bfloat16"):
            attend(q.bfloat16(), k.bfloat16(), v.bfloat16())


def test_module_is_timms_with_the_same_parameters() -> None:
    torch.manual_seed(0)
    ours, timms = Attention(64, num_heads=4, qkv_bias=True).eval(), TimmAttention(64, num_heads=4, qkv_bias=True).eval()
    timms.load_state_dict(ours.state_dict())
    tokens = torch.randn(2, 300, 64)
    with torch.inference_mode():
        expected = timms(tokens)
        torch.testing.assert_close(ours(tokens), expected, rtol=1e-5, atol=1e-6)
        with torch.autocast("cpu", torch.bfloat16):
            assert relative_error(ours(tokens), expected.double()) < 0.02
