"""The pass of `tiny`: as the pipeline runs it, as its module, and as the transformer that it replaced; and its floor.

    python bench/passes.py              some seconds on two cores; --threads 1 for one
    python bench/passes.py --smoke      shows that everything runs and agrees

What the pipeline runs is a graph in ONNX Runtime. The passes take turns, several of one before the next; the floor is
the operations of the pass at the rate of its largest matrix product, measured in the same turns. PyTorch is held to the
instructions of a machine with AVX2 only by

    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 python bench/passes.py

which ONNX Runtime does not read: it uses what the processor has. Nothing is asserted about time.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from harness import machine, wall_ms, write_json
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from objloc_ros.backbones.attention import Attention
from objloc_ros.backbones.onnx_graph import GraphViT, with_graph
from objloc_ros.backbones.specs import ViTSpec
from objloc_ros.backbones.vit import ViT, build_vit
from objloc_ros.benchmark.roofline import DeviceRates, MatrixProduct, count_vit
from objloc_ros.io.tables import text_table
from objloc_ros.types import Features

NOW, EAGER, BFLOAT16, BEFORE = "graph, as the pipeline runs it", "module, float32", "module, bfloat16", "predecessor"
PASSES = 4
"""Timed passes of one kind in a turn, after one that is not."""


class StridedStem(nn.Module):
    """The predecessor's patch embedding: three strided convolutions."""

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int, **_: object) -> None:
        super().__init__()
        self.num_patches = (img_size // patch_size) ** 2
        layers: list[nn.Module] = []
        for before, after in ((in_chans, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(before, after, 3, 2, padding=1, bias=False), nn.BatchNorm2d(after), nn.GELU()]
        self.stages = nn.Sequential(*layers, nn.Conv2d(128, embed_dim, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens in row-major order."""
        tokens: Tensor = self.stages(images)
        return tokens.flatten(2).transpose(1, 2)


def build_predecessor() -> ViT:
    """Return the architecture that was `tiny` until November 2026, with random weights."""
    spec = ViTSpec(patch=8, embed_dim=160, depth=6, n_heads=5, base=128, pos_embed="size", stem=StridedStem)
    vit = VisionTransformer(
        img_size=spec.base,
        patch_size=spec.patch,
        embed_dim=spec.embed_dim,
        depth=spec.depth,
        num_heads=spec.n_heads,
        num_classes=0,
        global_pool="",
        embed_layer=StridedStem,
        attn_layer=Attention,
    )
    return ViT(vit, spec).requires_grad_(False).eval()


def main() -> None:
    """Time the passes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one turn")
    parser.add_argument("--turns", type=int, default=10, help="turns of all passes (default: 10)")
    parser.add_argument("--threads", type=int, default=2, help="threads of a pass (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    where = f"{machine()}, {args.threads} thread(s), PyTorch at {torch.backends.cpu.get_cpu_capability()}"
    print(where)
    times, floors, cosines = measure(1 if args.smoke else args.turns)
    print_rows(times, floors, cosines)
    if args.json:
        write_json(args.json, machine=where, smoke=args.smoke, ms=times, floor_ms=floors, cosines=cosines)


@torch.inference_mode()
def measure(turns: int) -> tuple[dict[str, list[float]], dict[str, float], dict[str, float]]:
    """Return milliseconds of each pass, the floors, and the least cosine of the keys with the float32 module's."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, 192, 256)
    eager, before = build_vit("tiny").requires_grad_(False).eval(), build_predecessor()
    now = with_graph(eager, "tiny")
    if not isinstance(now, GraphViT):
        raise SystemExit("ONNX Runtime is not installed: the pipeline would run the module")

    def bfloat16() -> Features:
        with torch.autocast("cpu", torch.bfloat16):
            return eager(images)

    passes: dict[str, Callable[[], Features]] = {
        NOW: lambda: now(images),
        EAGER: lambda: eager(images),
        BFLOAT16: bfloat16,
        BEFORE: lambda: before(images),
    }
    works = {vit: count_vit(vit.spec, (24, 32)) for vit in (eager, before)}
    products = {vit: MatrixProduct("cpu", "float32", work.gemm) for vit, work in works.items()}
    rates = DeviceRates(products.values())
    keys = {name: call().keys for name, call in passes.items() if name != BEFORE}
    cosines = {name: torch.cosine_similarity(found, keys[EAGER], dim=-1).min().item() for name, found in keys.items()}
    times: dict[str, list[float]] = {name: [] for name in passes}
    gc.collect()
    for _ in range(turns):
        rates.measure()
        for name, call in passes.items():
            call()
            times[name] += [wall_ms(call) for _ in range(PASSES)]
    floor, old_floor = (rates.roofline_ms(works[vit], products[vit], 1) for vit in (eager, before))
    return times, {NOW: floor, EAGER: floor, BFLOAT16: floor, BEFORE: old_floor}, cosines


def print_rows(times: dict[str, list[float]], floors: dict[str, float], cosines: dict[str, float]) -> None:
    """Print a line per pass: its time, relative to the predecessor's, and how many times its floor it takes."""
    old = float(np.median(times[BEFORE]))
    lines = [("", "best", "median", "of the predecessor", "float32 floor", "times its floor", "least cosine")]
    for name, column in times.items():
        median = float(np.median(column))
        ratios = f"{median / old:.2f}", f"{floors[name]:.1f} ms", f"{median / floors[name]:.2f}"
        cosine = f"{cosines[name]:.6f}" if name in cosines else "–"
        lines.append((name, f"{min(column):.1f} ms", f"{median:.1f} ms", *ratios, cosine))
    print(text_table(lines, left=1))


if __name__ == "__main__":
    main()
