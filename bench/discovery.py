"""The discovery methods against their literal formulations, in batches, in memory and, where there is one, on a GPU.

    python bench/discovery.py            full size, minutes on two cores
    python bench/discovery.py --smoke    seconds; shows that everything runs and agrees

Nothing is asserted about time. Single-threaded by default: on a shared machine that is what compares.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import literal_discovery as literal
import numpy as np
import torch
from harness import Pair, compare, machine, print_pairs, wall_ms, write_json
from planted import planted_features
from threadpoolctl import threadpool_limits
from torch import Tensor

from objloc_ros.backbones.vit import ViT, build_vit
from objloc_ros.methods.deep_spectral import deep_spectral
from objloc_ros.methods.lost import lost
from objloc_ros.methods.maskcut import maskcut
from objloc_ros.methods.options import Post
from objloc_ros.methods.patch_object import PatchObject
from objloc_ros.methods.refinement import refine
from objloc_ros.methods.tokencut import tokencut
from objloc_ros.scenes.video import drive_video
from objloc_ros.types import Grid, Size

METHODS: dict[str, Callable] = {method.__name__: method for method in (lost, tokencut, maskcut, deep_spectral)}

BATCH = 8


def main() -> None:
    """Run every part, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small sizes, a few seconds in all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch, NumPy and SciPy (default: 1)")
    parser.add_argument("--memory", choices=METHODS, help="only print the MiB that one call of this method takes")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with threadpool_limits(args.threads):
        if args.memory:
            print(peak_growth(args.memory, make_grid(8, args.smoke)))
        else:
            report(args.smoke, args.threads, args.json)


def report(smoke: bool, threads: int, json: Path | None) -> None:
    """Everything but the memory of a single method, which the other processes report."""
    where = f"{machine()}, {threads} thread(s)"
    print(where)
    pairs = []
    for pair in (*lost_pairs(smoke), *tokencut_pairs(smoke), *maskcut_pairs(smoke), *deep_spectral_pairs(smoke)):
        pairs.append(pair)
        print(f"  {pair.name}: {pair.ratio:.1f}x", flush=True)
    print_pairs(pairs)
    batches = batch_costs(make_grid(16, smoke), rounds=2 if smoke else 7)
    posts = refinement_costs((96, 96) if smoke else (480, 480), rounds=1 if smoke else 5)
    memory = {name: measure_memory(name, smoke, threads) for name in METHODS}
    rates = gpu_rates() if torch.cuda.is_available() else {}
    _print_section(f"patch 16, ms per image one by one and {BATCH} at once", batches)
    _print_section("ms to refine one and three masks, 480x480", posts)
    _print_section("patch 8, MiB of resident memory that one call adds at its peak", memory)
    if rates:
        _print_section(f"GPU, images/s {BATCH} at once, pixels on the GPU to masks on the host", rates)
    if json:
        write_json(
            json,
            machine=where,
            smoke=smoke,
            pairs=pairs,
            batch_ms=batches,
            refine_ms=posts,
            memory_mib=memory,
            gpu=rates,
        )


def make_grid(patch: int, smoke: bool, *, square: bool = False) -> Grid:
    """The patch grid of 640 x 480 or, square, 480 x 480; of a smaller image in a smoke run."""
    if smoke:
        return {16: (12, 12 if square else 16), 8: (16, 16 if square else 20)}[patch]
    return 480 // patch, (480 if square else 640) // patch


def lost_pairs(smoke: bool) -> Iterator[Pair]:
    """LOST as the original writes it, and without the sum of its matrix and the transpose that it never uses."""
    for patch, wanted, rounds in ((16, 2, 60), (8, 4.5, 12)):
        grid = make_grid(patch, smoke)
        features, _ = planted_features(grid)
        for symmetrise in (True, False):
            yield compare(
                f"{_title('LOST', patch, grid)}, {'as written' if symmetrise else 'without A + A^T'}",
                lambda f=features, g=grid, s=symmetrise: literal.lost(f[0], g, symmetrise=s),
                lambda f=features, g=grid: lost(f, g)[0].mask.numpy(),
                lambda a, b: f"{_differing(a, b)} patches differ",
                wanted=wanted,
                rounds=2 if smoke else rounds,
            )


def tokencut_pairs(smoke: bool) -> Iterator[Pair]:
    """TokenCut beside the dense generalised eigenproblem."""
    for patch, wanted, rounds in ((16, 15, 25), (8, 70, 2)):
        grid = make_grid(patch, smoke)
        features, _ = planted_features(grid)
        yield compare(
            _title("TokenCut", patch, grid),
            lambda f=features, g=grid: literal.tokencut(f[0], g),
            lambda f=features, g=grid: tokencut(f, g)[0].mask.numpy(),
            lambda a, b: f"{_differing(a, b)} patches differ",
            wanted=wanted,
            rounds=2 if smoke else rounds,
        )


def maskcut_pairs(smoke: bool) -> Iterator[Pair]:
    """MaskCut beside one such problem per round; three masks, both sides to pixels."""
    for patch, wanted, rounds in ((16, 30, 25), (8, 120, 2)):
        grid = make_grid(patch, smoke, square=True)
        features, _ = planted_features(grid)
        size = (grid[0] * patch, grid[1] * patch)
        yield compare(
            _title("MaskCut", patch, grid),
            lambda f=features, g=grid, s=size: literal.maskcut(f[0], g, size=s),
            lambda f=features, g=grid, p=patch: _pixels(maskcut(f, g)[0], p),
            lambda a, b: f"{_differing(a, b)} pixels of {len(a)} masks differ",
            wanted=wanted,
            rounds=2 if smoke else rounds,
        )


def deep_spectral_pairs(smoke: bool) -> Iterator[Pair]:
    """Deep Spectral's five smallest eigenvectors beside shift and invert."""
    for patch, rounds in ((16, 40), (8, 4)):
        grid = make_grid(patch, smoke)
        features, _ = planted_features(grid)
        yield compare(
            _title("Deep Spectral", patch, grid),
            lambda f=features, g=grid: literal.deep_spectral(f[0], g),
            lambda f=features, g=grid: deep_spectral(f, g)[0],
            lambda a, b: (
                f"eigenvalues {np.abs(a[0] - b.eigenvalues.numpy()).max():.0e} apart, "
                f"{_differing(a[2], b.segment.numpy())} patches differ"
            ),
            wanted=4,
            rounds=2 if smoke else rounds,
        )


def batch_costs(grid: Grid, rounds: int) -> dict[str, tuple[float, float]]:
    """Best milliseconds per image of the same images one by one and all at once, in turns."""
    features, _ = planted_features(grid, images=BATCH)
    costs = {}
    for name, method in METHODS.items():

        def one_by_one(method: Callable = method) -> None:
            for image in features.split(1):
                method(image, grid)

        def at_once(method: Callable = method) -> None:
            method(features, grid)

        at_once()
        times = [(wall_ms(one_by_one), wall_ms(at_once)) for _ in range(rounds)]
        singly, together = (min(column) / BATCH for column in zip(*times, strict=True))
        costs[name] = (singly, together)
    return costs


def refinement_costs(size: Size, rounds: int) -> dict[str, tuple[float, float]]:
    """Best milliseconds to refine one mask of an image and three of them."""
    ((image, identities),) = drive_video(seed=3, size=size, frames=1)
    rows, columns = np.indices(size)
    coarse = (identities > 0)[rows // 16 * 16, columns // 16 * 16]
    masks = [coarse & (columns % 3 != i) for i in range(3)]
    posts: tuple[Post, ...] = ("bilateral", "crf")
    return {
        post: tuple(
            min(wall_ms(lambda n=n, p=post: refine(masks[:n], image, p)) for _ in range(rounds)) for n in (1, 3)
        )
        for post in posts
    }


def measure_memory(method: str, smoke: bool, threads: int) -> float:
    """What `--memory` prints in a process of its own, where no earlier peak hides that of the call."""
    command = [sys.executable, __file__, "--memory", method, "--threads", str(threads)]
    result = subprocess.run(command + ["--smoke"] * smoke, check=True, stdout=subprocess.PIPE, text=True)
    return float(result.stdout)


def peak_growth(method: str, grid: Grid) -> float:
    """MiB between what was resident before a call and the process's peak after it.

    Not `ru_maxrss`: Linux hands the parent's down to a process that is started by fork and exec.
    """
    features, _ = planted_features(grid)
    before = _status_mib("VmRSS")
    METHODS[method](features, grid)
    return _status_mib("VmHWM") - before


def gpu_rates() -> dict[str, float]:
    """Images per second from normalised pixels on the GPU to masks on the host, backbones with random weights."""
    return {
        "TokenCut, dino_vits16, 640x480": gpu_rate(tokencut, "dino_vits16", (480, 640)),
        "MaskCut, dino_vits8, 480x480": gpu_rate(maskcut, "dino_vits8", (480, 480)),
    }


@torch.inference_mode()
def gpu_rate(method: Callable, backbone: str, size: Size) -> float:
    """Images per second of one method; the best of several batches after a few untimed ones."""
    model = build_vit(backbone).eval().cuda()
    images = _frames(model, size).cuda()

    def work() -> None:
        seen = model(images)
        _to_host(method(seen.keys, seen.grid))
        torch.cuda.synchronize()

    for _ in range(3):
        work()
    return 1e3 * BATCH / min(wall_ms(work) for _ in range(20))


def _frames(model: ViT, size: Size) -> Tensor:
    """Frames of the procedural drive as the backbone wants them: float32 [B, 3, H, W]."""
    pixels = np.stack([image for image, _ in drive_video(seed=3, size=size, frames=BATCH)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    return (images - torch.tensor(model.mean).view(3, 1, 1)) / torch.tensor(model.std).view(3, 1, 1)


def _to_host(found: list[PatchObject] | list[list[PatchObject]]) -> list[Tensor]:
    return [item.mask for image in found for item in (image if isinstance(image, list) else [image])]


def _pixels(found: list[PatchObject], patch: int) -> np.ndarray:
    """Masks [n, h, w] with each patch repeated over its pixels."""
    masks = np.stack([item.mask.numpy() for item in found])
    return masks.repeat(patch, 1).repeat(patch, 2)


def _title(method: str, patch: int, grid: Grid) -> str:
    return f"{method} P{patch}, {grid[1] * patch}x{grid[0] * patch}"


def _differing(a: np.ndarray, b: np.ndarray) -> str:
    return f"{np.count_nonzero(a != b)} of {a.size}"


def _status_mib(name: str) -> float:
    """A memory size that Linux keeps of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _print_section(title: str, values: dict[str, float] | dict[str, tuple[float, float]]) -> None:
    print(f"\n{title}")
    for name, value in values.items():
        numbers = value if isinstance(value, tuple) else (value,)
        print(f"  {name:42}" + "".join(f"{number:10.2f}" for number in numbers))


if __name__ == "__main__":
    main()
