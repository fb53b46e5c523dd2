"""Counted operations against PyTorch's own counter, and the figures that are known for the large models."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from objloc_ros.backbones.clip import CLIP_SPECS, build_clip_image
from objloc_ros.backbones.onnx_graph import list_weights
from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.vit import build_vit
from objloc_ros.benchmark.roofline import (
    DeviceRates,
    GemmShape,
    MatrixProduct,
    count_clip_dense,
    count_clip_windows,
    count_detector,
    count_gram,
    count_vit,
)
from objloc_ros.methods.clip_diy import windows_per_row
from objloc_ros.methods.maskclip import value_features
from objloc_ros.methods.token_detector import TokenDetector
from objloc_ros.ops.geometry import plan

WINDOWS = sum(n * n for n in windows_per_row())


@torch.inference_mode()
def counted(run):
    """Operations by PyTorch: all, and those of batched products, which on the plain path are attention's."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    counts = counter.get_flop_counts()["Global"]
    return sum(counts.values()), counts.get(torch.ops.aten.bmm, 0)


@pytest.mark.parametrize(("backbone", "grid"), [("tiny", (8, 12)), ("tiny", (3, 5)), ("dino_vits16", (4, 3))])
def test_backbones_are_counted_as_pytorch_does(backbone, grid):
    patch = SPECS[backbone].patch
    vit = build_vit(backbone).eval()
    whole, batched = counted(lambda: vit(torch.zeros(1, 3, grid[0] * patch, grid[1] * patch)))
    workload = count_vit(SPECS[backbone], grid)
    cls_row = 2 * (grid[0] * grid[1] + 1) * SPECS[backbone].embed_dim
    assert workload.flops == whole
    assert workload.attention == batched - cls_row


def test_clip_windows_are_counted_as_pytorch_does():
    tower = build_clip_image("tiny_clip").eval()
    whole, batched = counted(lambda: tower(torch.zeros(1, 3, tower.side, tower.side)))
    workload = count_clip_windows(CLIP_SPECS["tiny_clip"])
    assert (workload.flops, workload.attention) == (WINDOWS * whole, WINDOWS * batched)


def test_dense_clip_is_counted_as_pytorch_does():
    tower = build_clip_image("tiny_clip").eval()
    whole, batched = counted(lambda: value_features(tower, tower.tokens(torch.zeros(1, 3, 64, 96))))
    workload = count_clip_dense(CLIP_SPECS["tiny_clip"], (60, 90))
    assert (workload.flops, workload.attention) == (whole, batched)


def test_detectors_are_counted_as_pytorch_does():
    whole, _ = counted(lambda: TokenDetector(160).eval()(torch.zeros(1, 160, 5, 7)))
    assert count_detector(SPECS["tiny"], (5, 7)).flops == whole


def test_large_models_have_the_known_figures():
    s16, s8 = (count_vit(SPECS[f"dino_vits{patch}"], (480 // patch, 640 // patch)) for patch in (16, 8))
    assert s16.flops / 1e9 == pytest.approx(78, rel=0.08)  # of all twelve blocks; the last is only projected here
    assert s16.attention / 1e9 == pytest.approx(27 * 11 / 12, rel=0.02)
    assert s8.attention / 1e9 == pytest.approx(425 * 11 / 12, rel=0.01)
    assert count_clip_windows(CLIP_SPECS["clip_vitb32"]).flops / 1e9 == pytest.approx(520, rel=0.01)
    gram = count_gram(4800, 384)
    assert 2 * gram.flops / 1e9 == pytest.approx(17.7, rel=0.01)  # half of them, as the matrix is symmetric
    assert 2 * gram.image_bytes / 1e6 == pytest.approx(92 + 2 * 7.4, rel=0.01)  # and the features


def test_the_embedded_backbone_stays_small():
    vit = build_vit("tiny").eval()
    height, width = plan((480, 640), patch=vit.patch, short_side=vit.spec.short_side).padded
    whole, _ = counted(lambda: vit(torch.zeros(1, 3, height, width)))
    assert (height, width) == (192, 256)
    assert whole <= 1.6e9


def test_weights_are_shared_by_a_batch():
    workload = count_vit(SPECS["tiny"], (8, 12))
    vit = build_vit("tiny")
    read = [p.numel() for name, p in vit.named_parameters() if name.removeprefix("vit.") in list_weights(vit)]
    assert workload.weight_bytes / 4 == pytest.approx(sum(read), rel=0.02)  # biases and norms are not counted
    assert workload.bytes(1) - workload.bytes(4) == pytest.approx(0.75 * workload.weight_bytes)


def test_floor_is_what_takes_longer():
    gemm = GemmShape(64, 32, 64)
    product = MatrixProduct("cpu", "float32", gemm)
    rates = DeviceRates([product])
    rates.measure()
    assert rates.flops_per_s(product) > 0
    assert rates.bytes_per_s("cpu") > 0
    workload = count_gram(64, 32)
    by_flops, by_bytes = workload.flops / rates.flops_per_s(product), workload.bytes(1) / rates.bytes_per_s("cpu")
    assert rates.roofline_ms(workload, product, 1) == pytest.approx(1e3 * max(by_flops, by_bytes))
    by_kind = {tuple(sorted(row)): row for row in rates.to_json()}
    assert by_kind["device", "dtype", "gemm", "gflop_per_s"]["gemm"] == [64, 32, 64]
    assert by_kind["copy_gb_per_s", "device"]["copy_gb_per_s"] > 0
