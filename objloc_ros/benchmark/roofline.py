"""The roofline of a frame: the operations and bytes that it needs, and how fast the device is at both.

A multiplication and an addition are two operations. What is counted are the matrix products, the convolutions and the
products of attention; normalisation, activations, softmax and the resampling of position embeddings are not, so that
the bound that follows lies below what any implementation can reach. How fast the device multiplies matrices and copies
memory is measured beside the frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import Conv2d
from torch.utils.flop_counter import FlopCounterMode

from objloc_ros.backbones.attention import Attention
from objloc_ros.backbones.clip import ClipSpec
from objloc_ros.backbones.lite_clip import LiteImage, LiteSpec
from objloc_ros.backbones.specs import ViTSpec
from objloc_ros.backbones.vit import ViT, build_transformer
from objloc_ros.engine.timings import synchronize
from objloc_ros.methods.clip_diy import windows_per_row
from objloc_ros.methods.token_detector import WIDTH, TokenDetector
from objloc_ros.ops.geometry import plan
from objloc_ros.types import Grid, Size

COPY_BYTES = 2**26
"""Size of the copied buffer, beyond the caches of a core."""

MAX_CALLS, PROBE_S = 20, 0.01
"""Calls of one product or copy in a round, and the seconds after which no further one is made (two at least)."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class MatrixProduct:
    """A matrix product on a device.

    Args:
        device: Where.
        dtype: A key of `DTYPES`.
        gemm: Its size.
    """

    device: str
    dtype: str
    gemm: GemmShape


class DeviceRates:
    """The best rates seen, of the products that were asked for.

    Args:
        products: What to measure; copies are measured on each of their devices.
    """

    def __init__(self, products: Iterable[MatrixProduct]) -> None:
        self._probes: dict[MatrixProduct | str, Callable[[], None]] = {}
        for product in products:
            self._probes[product] = _make_product(product)
            self._probes.setdefault(product.device, _make_copy(product.device))
        self._best_s = dict.fromkeys(self._probes, float("inf"))

    def measure(self) -> None:
        """BenchmarkRun everything some times, so that the caches are warm; the best time of each stays."""
        for key, probe in self._probes.items():
            device = torch.device(key if isinstance(key, str) else key.device)
            begin = time.perf_counter()
            for number in range(MAX_CALLS):
                synchronize(device)
                start = time.perf_counter()
                probe()
                synchronize(device)
                end = time.perf_counter()
                self._best_s[key] = min(self._best_s[key], end - start)
                if number and end - begin > PROBE_S:
                    break

    def flops_per_s(self, product: MatrixProduct) -> float:
        """Return the operations per second of a product."""
        return product.gemm.flops / self._best_s[product]

    def bytes_per_s(self, device: str) -> float:
        """Return the bytes that a copy reads and writes per second."""
        return 2 * COPY_BYTES / self._best_s[device]

    def roofline_ms(self, workload: Workload, product: MatrixProduct, batch: int) -> float:
        """Compute the least milliseconds per image: of the operations or of the bytes, whichever take longer.

        Args:
            workload: What has to be computed.
            product: The product at whose rate it may be.
            batch: Images of one call.
        """
        by_flops = workload.flops / self.flops_per_s(product)
        by_bytes = workload.bytes(batch) / self.bytes_per_s(product.device)
        return 1e3 * max(by_flops, by_bytes)

    def to_json(self) -> list[dict[str, object]]:
        """Return all rates as JSON values: GFLOP/s of each product, GB/s of each device's copy."""
        rows: list[dict[str, object]] = []
        for key in self._probes:
            if isinstance(key, str):
                rows.append({"device": key, "copy_gb_per_s": self.bytes_per_s(key) / 1e9})
            else:
                size = [key.gemm.rows, key.gemm.inner, key.gemm.columns]
                rate = self.flops_per_s(key) / 1e9
                rows.append({"device": key.device, "dtype": key.dtype, "gemm": size, "gflop_per_s": rate})
        return rows


def _make_product(product: MatrixProduct) -> Callable[[], None]:
    gemm, dtype, device = product.gemm, DTYPES[product.dtype], product.device
    a = torch.rand(gemm.rows, gemm.inner, dtype=dtype, device=device)
    b = torch.rand(gemm.inner, gemm.columns, dtype=dtype, device=device)
    c = torch.empty(gemm.rows, gemm.columns, dtype=dtype, device=device)

    def run() -> None:
        torch.mm(a, b, out=c)

    return run


def _make_copy(device: str) -> Callable[[], None]:
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)

    def run() -> None:
        target.copy_(source)

    return run


FLOAT_BYTES = 4
"""Weights, inputs and outputs are float32 everywhere; bfloat16 is what the products are computed in."""


@dataclass(frozen=True)
class GemmShape:
    """The size of a matrix product [rows, inner] x [inner, columns]; its rate stands for that of a whole workload."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Its operations."""
        return 2 * self.rows * self.inner * self.columns


@dataclass(frozen=True)
class Workload:
    """What has to be computed for one image.

    Args:
        products: Operations of matrix products and convolutions.
        attention: Operations of the two products of attention, which grow with the square of the patches.
        weight_bytes: Weights, read once for each call.
        image_bytes: What goes in and comes out for each image. Everything between may stay in the caches.
        gemm: The largest of its matrix products.
        bfloat16: Whether those may be computed in bfloat16, where the device has units for it.
    """

    products: int
    attention: int
    weight_bytes: int
    image_bytes: int
    gemm: GemmShape
    bfloat16: bool

    @property
    def flops(self) -> int:
        """All operations."""
        return self.products + self.attention

    def bytes(self, batch: int) -> float:
        """Bytes per image that have to be read and written, in a call of so many images."""
        return self.image_bytes + self.weight_bytes / batch


def count_vit(spec: ViTSpec, grid: Grid) -> Workload:
    """Count a pass of a backbone, whose last block is only projected, from the layers that it runs.

    Args:
        spec: Its architecture.
        grid: Patch rows and columns.
    """
    with torch.device("meta"):  # shapes only
        vit = ViT(build_transformer(spec), spec).eval()
        images = torch.empty(1, 3, grid[0] * spec.patch, grid[1] * spec.patch)
    layers: list[tuple[GemmShape, int]] = []  # each layer's product, and how often: once, or for each group of channels
    attention = 0

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal attention
        if isinstance(module, Conv2d):
            inner, columns = module.weight[0].numel(), module.out_channels // module.groups
            layers.append((GemmShape(output.shape[2] * output.shape[3], inner, columns), module.groups))
        elif isinstance(module, nn.Linear):
            layers.append((GemmShape(inputs[0].shape[1], module.in_features, module.out_features), 1))
        elif isinstance(module, Attention):
            attention += 4 * inputs[0].shape[1] ** 2 * inputs[0].shape[2]

    for module in vit.modules():
        module.register_forward_hook(note)
    with torch.inference_mode():
        vit(images)
    patches, width = grid[0] * grid[1], spec.embed_dim
    cls_row = 2 * (patches + spec.leads) * width
    return Workload(
        products=sum(gemm.flops * times for gemm, times in layers) + cls_row,
        attention=attention,
        weight_bytes=FLOAT_BYTES * sum(gemm.inner * gemm.columns * times for gemm, times in layers),
        image_bytes=FLOAT_BYTES * (3 * patches * spec.patch**2 + 3 * patches * width),
        gemm=max((gemm for gemm, _ in layers), key=lambda gemm: gemm.flops),
        bfloat16=spec.bfloat16,
    )


def count_clip_windows(spec: ClipSpec) -> Workload:
    """Count CLIP-DIY's windows through the whole image tower."""
    count, side = sum(n * n for n in windows_per_row()), spec.side // spec.patch
    patches, width = side * side, spec.width
    stem_flops, stem_weights = _stem((side, side), spec.patch, width, spec.stem)
    blocks, attention = _blocks(patches + 1, width, spec.layers)
    return Workload(
        products=count * (stem_flops + blocks + 2 * width * spec.embed_dim),
        attention=count * attention,
        weight_bytes=FLOAT_BYTES * (stem_weights + 12 * width**2 * spec.layers + width * spec.embed_dim),
        image_bytes=FLOAT_BYTES * count * (3 * spec.side**2 + spec.embed_dim),
        gemm=GemmShape(count * (patches + 1), width, 4 * width),
        bfloat16=True,
    )


def count_clip_dense(spec: ClipSpec, source: Size) -> Workload:
    """Count MaskCLIP's features of a whole image: the last block on its value path."""
    grid = plan(source, patch=spec.patch, short_side=spec.short_side).grid
    patches, width = grid[0] * grid[1], spec.width
    stem_flops, stem_weights = _stem(grid, spec.patch, width, spec.stem)
    blocks, attention = _blocks(patches + 1, width, spec.layers - 1)
    last = patches * (20 * width**2 + 2 * width * spec.embed_dim)
    return Workload(
        products=stem_flops + blocks + last,
        attention=attention,
        weight_bytes=FLOAT_BYTES * (stem_weights + width**2 * (12 * spec.layers - 2) + width * spec.embed_dim),
        image_bytes=FLOAT_BYTES * patches * (3 * spec.patch**2 + spec.embed_dim),
        gemm=GemmShape(patches + 1, width, 4 * width),
        bfloat16=True,
    )


def count_lite(spec: LiteSpec, size: Size) -> Workload:
    """Count one pass of `lite_clip`'s image tower over an image of this size, in multiples of its patch.

    Most of it are convolutions of single pixels; those at stride 16 stand for all.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        tower = LiteImage(spec)
        tower.dense(torch.empty(1, 3, *size))
    positions = size[0] * size[1] // spec.patch**2
    return Workload(
        products=counter.get_total_flops(),
        attention=0,
        weight_bytes=FLOAT_BYTES * sum(parameter.numel() for parameter in tower.parameters()),
        image_bytes=FLOAT_BYTES * (3 * size[0] * size[1] + positions * spec.embed_dim),
        gemm=GemmShape(4 * positions, 112, 672),
        bfloat16=True,
    )


def count_detector(spec: ViTSpec, grid: Grid) -> Workload:
    """Count the convolutions of a token detector of one class; float32.

    Args:
        spec: The backbone that it reads.
        grid: Patch rows and columns.
    """
    detector = TokenDetector(spec.embed_dim)
    weights = sum(convolution.weight.numel() for convolution in detector.modules() if isinstance(convolution, Conv2d))
    patches = grid[0] * grid[1]
    return Workload(
        products=2 * patches * weights,
        attention=0,
        weight_bytes=FLOAT_BYTES * weights,
        image_bytes=FLOAT_BYTES * patches * (spec.embed_dim + WIDTH),
        gemm=GemmShape(patches, 9 * WIDTH, WIDTH),
        bfloat16=False,
    )


def count_gram(patches: int, channels: int) -> Workload:
    """Count the inner products of all pairs of patches, each computed and kept once; float32, as the graphs need it.

    The cuts that follow multiply this matrix some ten times by a vector; how often depends on the image.
    """
    pairs = patches * (patches + 1) // 2
    return Workload(
        products=2 * pairs * channels,
        attention=0,
        weight_bytes=0,
        image_bytes=FLOAT_BYTES * (patches * channels + pairs),
        gemm=GemmShape(patches, channels, patches),
        bfloat16=False,
    )


def _blocks(tokens: int, width: int, blocks: int) -> tuple[int, int]:
    """Count the operations of so many transformer blocks: of their projections and MLPs, and of their attention."""
    return 24 * tokens * width**2 * blocks, 4 * tokens**2 * width * blocks


def _stem(grid: Grid, patch: int, width: int, stem: object) -> tuple[int, int]:
    """Count operations and weights of a patch embedding: of one strided convolution, or of those that `stem` lists."""
    patches = grid[0] * grid[1]
    layers: tuple[tuple[int, int], ...] | None = getattr(stem, "LAYERS", None)
    if layers is None:
        return 2 * patches * 3 * patch**2 * width, 3 * patch**2 * width
    flops, weights, channels, pixels = 0, 0, 3, patches * patch**2
    for after, stride in layers:
        pixels //= stride**2
        flops += 2 * pixels * 9 * channels * after
        weights += 9 * channels * after
        channels = after
    return flops + 2 * patches * channels * width, weights + channels * width
