"""The open-vocabulary methods: CLIP-DIY against its literal formulation, frames, batches, and what new prompts cost.

    python bench/open_vocab.py            full size, a quarter of an hour on two cores
    python bench/open_vocab.py --smoke    under a minute; shows that everything runs and agrees

The large towers have random weights, on which times do not depend. Nothing is asserted about time. Single-threaded by
default, except for the node, which runs as it would on a robot.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import literal_open_vocab as literal
import numpy as np
import torch
from harness import Pair, machine, print_pairs, wall_ms, write_json
from live_prompts import BEFORE_S, live_changes
from open_vocab_models import (
    AT_ONCE,
    CLASSES,
    CPU,
    build_model,
    build_pipeline,
    build_towers,
    dinoiser_classes,
    diy_classes,
    frames,
    fresh_prompts,
    random_texts,
    smooth_saliency,
    squares,
)
from torch import Tensor, nn

from objloc_ros.backbones.clip_text import ClipText
from objloc_ros.backbones.reduced import has_bfloat16_units
from objloc_ros.engine.pipeline import Pipeline, load_pipeline
from objloc_ros.engine.prompts import IMAGENET, EncodedPrompts, check_prompts, expand_templates
from objloc_ros.io.tables import text_table
from objloc_ros.methods.clip_diy import PATCH_SIZES
from objloc_ros.scenes.video import drive_video
from objloc_ros.types import BACKGROUND, DEFAULT_TEMPLATES

BATCH = 8
PARTS = ("literal", "frames", "prompts", "node", "gpu")


def main() -> None:
    """Run every part, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small sizes, under a minute in all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    parser.add_argument("--threads", type=int, default=1, help="torch and OpenCV threads outside the node (default: 1)")
    parser.add_argument("--rate", type=float, default=15.0, help="of the node's camera, Hz (default: 15)")
    parser.add_argument("--changes", type=int, choices=range(2, 31), metavar="2..30", help="of the node's prompts")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these; node needs ROS 2")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    torch.manual_seed(0)
    with torch.inference_mode():
        report(args)


def report(args: argparse.Namespace) -> None:
    """The parts that are asked for, one after another."""
    smoke = args.smoke
    where = f"{machine()}, {args.threads} thread(s)"
    precision = "bfloat16" if has_bfloat16_units(CPU) else "float32"
    print(where)
    sections: dict[str, Any] = {}
    if "literal" in args.parts:
        sections["pairs"] = []
        for pair in (*diy_pairs("clip_vitb32", smoke), *diy_pairs("tiny_clip", smoke)):
            sections["pairs"].append(pair)
            print(f"  {pair.name}: {pair.ratio:.1f}x", flush=True)
        print_pairs(sections["pairs"])
    if "frames" in args.parts:
        sections["frame_ms"] = frame_costs(smoke)
        _print_table(f"the engine in {precision}, ms per frame", ("singly", "batch"), sections["frame_ms"])
    if "prompts" in args.parts:
        sections["prompts_ms"] = prompt_costs(smoke)
        title = f"{AT_ONCE} new prompts, ms to check, encode, encode again and swap"
        _print_table(title, ("check", "encode", "again", "swap"), sections["prompts_ms"])
        sections["text_passes"] = text_passes(frames=2 if smoke else 20)
        _print_table("passes of the text tower", ("",), sections["text_passes"])
    if "node" in args.parts:
        changes = args.changes or (2 if smoke else 20)
        sections["node"] = live_changes(args.rate, changes, before_s=2 if smoke else BEFORE_S)
        _print_table(f"the node at {args.rate:g} Hz, {changes} changes of {AT_ONCE} prompts", ("",), sections["node"])
    if "gpu" in args.parts and torch.cuda.is_available():
        sections["gpu"] = gpu_rates(torch.device("cuda"))
        _print_table("GPU, frames/s by CUDA events", ("singly", f"{BATCH} at once"), sections["gpu"])
    elif "gpu" in args.parts:
        print("\nno GPU")
    if args.json:
        write_json(args.json, machine=where, smoke=smoke, precision=precision, **sections)


def diy_pairs(name: str, smoke: bool) -> Iterator[Pair]:
    """CLIP-DIY on one frame of 640x480, literal and ours in turns; the literal one with and without its texts."""
    model = build_model(name)
    scales = PATCH_SIZES[: 1 if name != "tiny_clip" else 2] if smoke else PATCH_SIZES
    (image,) = frames(1)
    saliency = smooth_saliency(1)
    # The embedded pair reads most of Pascal's names as one and the same unknown word, and equal texts tie.
    classes = (BACKGROUND, *next(fresh_prompts())) if name == "tiny_clip" else CLASSES
    classes = classes[:6] if smoke else classes
    precisions = (False, True) if has_bfloat16_units(CPU) else (False,)

    def sentences() -> Tensor:
        return literal.class_texts(model.text, model.tokenizer, classes)

    texts = sentences()

    def ours(bfloat16: bool) -> Tensor:
        return diy_classes(squares([image]), model.image, texts, saliency, scales=scales, bfloat16=bfloat16)[0]

    def windows() -> np.ndarray:
        return literal.clip_diy(image, model.image, texts, saliency[0], scales)

    expected = windows()
    agreement = {bfloat16: _agreement(expected, ours(bfloat16).numpy()) for bfloat16 in precisions}
    rounds = 1 if smoke else {"clip_vitb32": 4, "tiny_clip": 15}[name]
    times = [
        (wall_ms(windows), wall_ms(sentences), *(wall_ms(lambda b=b: ours(b)) for b in precisions))
        for _ in range(rounds)
    ]
    for number, bfloat16 in enumerate(precisions, start=2):
        for with_text in (True, False):
            turns = [(taken[0] + taken[1] * with_text, taken[number]) for taken in times]
            yield Pair(
                f"{name} {'bf16' if bfloat16 else 'fp32'}, literal {'with' if with_text else 'without'} text",
                *(min(column) for column in zip(*turns, strict=True)),
                agreement[bfloat16],
                wanted=2 if bfloat16 else 1,
                rounds=turns,
            )


def frame_costs(smoke: bool) -> dict[str, tuple[float, float]]:
    """Best milliseconds per frame of the engine, image to labels and regions: one by one and a batch at once."""
    methods = {"tiny_clip": ("clip_diy", "maskclip", "clip_dinoiser"), "clip_vitb16": ("maskclip", "clip_dinoiser")}
    if not smoke:  # 59 windows take seconds
        methods["clip_vitb32"] = ("clip_diy",)
    images = frames(2, (96, 128)) if smoke else frames(BATCH)
    costs = {}
    for name, wanted in methods.items():
        towers = build_towers(name)
        pipeline = build_pipeline(towers, wanted, random_texts(towers))
        for method in wanted:

            def singly(p: Pipeline = pipeline, m: str = method) -> None:
                for image in images:
                    p.run(image, [m])

            def together(p: Pipeline = pipeline, m: str = method) -> None:
                p.run(images, [m])

            together()
            rounds = 1 if smoke else 5 if name == "tiny_clip" else 2
            times = [(wall_ms(singly), wall_ms(together)) for _ in range(rounds)]
            costs[f"{method}, {name}"] = tuple(min(column) / len(images) for column in zip(*times, strict=True))
    return costs


def prompt_costs(smoke: bool) -> dict[str, tuple[float, float, float, float]]:
    """Median milliseconds of what becomes of new prompts; swapping is all of it that a frame could wait for."""
    pipeline = load_pipeline(methods=("clip_diy",), device="cpu")
    costs = {}
    for name in ("tiny_clip",) if smoke else ("tiny_clip", "clip_vitb32"):
        model = build_model(name)
        for templates, rounds in ((DEFAULT_TEMPLATES, 2 if smoke else 15), ((IMAGENET,), 0 if smoke else 3)):
            tower, fresh, times = ClipText(name, model.text, model.tokenizer), fresh_prompts(), []
            tower.encode([BACKGROUND], DEFAULT_TEMPLATES)  # the first pass of a tower is slower
            for _ in range(rounds):
                prompts = next(fresh)
                encoded = EncodedPrompts(tuple(prompts), torch.empty(1 + AT_ONCE, model.text.output_dim))
                steps: tuple[Callable[[], Any], ...] = (
                    lambda p=prompts, n=name, t=templates: check_prompts(n, p, t),
                    lambda p=prompts, e=tower, t=templates: e.encode([BACKGROUND, *p], expand_templates(t)),
                    lambda p=prompts, e=tower, t=templates: e.encode([BACKGROUND, *p], expand_templates(t)),
                    lambda e=encoded: pipeline.use_prompts(e),
                )
                times.append([wall_ms(step) for step in steps])
            if times:
                costs[f"{name}, {len(expand_templates(templates))} template(s)"] = tuple(
                    np.median(times, axis=0).tolist()
                )
    return costs


def text_passes(frames: int) -> dict[str, int]:
    """How often the text tower runs: when prompts are set, set again, and while frames are answered."""
    pipeline = load_pipeline(methods=("clip_diy", "maskclip", "clip_dinoiser"), device="cpu")
    images = [image for image, _ in drive_video(seed=3, size=(480, 640), frames=frames)]
    prompts, passes = next(fresh_prompts()), {}
    with counted_text_passes() as count:
        for case in (f"{AT_ONCE} new prompts", "the same again"):
            before = count()
            pipeline.set_prompts(prompts)
            passes[case] = count() - before
        before = count()
        for image in images:
            pipeline.run(image)
        passes[f"{frames} frames with each method"] = count() - before
    return passes


@contextmanager
def counted_text_passes() -> Iterator[Callable[[], int]]:
    """Count the passes of all text towers: only they look tokens up in a table."""
    seen: list[nn.Module] = []

    def hook(module: nn.Module, _inputs: Any) -> None:
        if isinstance(module, nn.Embedding):
            seen.append(module)

    handle = nn.modules.module.register_module_forward_pre_hook(hook)
    try:
        yield lambda: len(seen)
    finally:
        handle.remove()


def gpu_rates(device: torch.device) -> dict[str, tuple[float, float]]:
    """Frames per second, one by one and a batch at once.

    First from pixels on the GPU to class maps on the GPU, in both precisions; then the engine as it is, from images on
    the host to labels and regions on the host.
    """
    diy, dense = (build_towers(name, device) for name in ("clip_vitb32", "clip_vitb16"))
    texts = random_texts(diy, device)
    pixels, saliency = squares(frames(BATCH)).to(device), smooth_saliency(BATCH).to(device)
    images = frames(BATCH, (448, 448))
    inputs = torch.randn(BATCH, 3, 448, 448, device=device)
    works: dict[str, Callable[[int], Any]] = {}
    for bfloat16 in (False, True):
        precision = "bf16" if bfloat16 else "fp32"
        works[f"CLIP-DIY, clip_vitb32, {precision}"] = lambda n, b=bfloat16: diy_classes(
            pixels[:n], diy.clip, texts, saliency[:n], bfloat16=b
        )
        works[f"CLIP-DINOiser, clip_vitb16, 448x448, {precision}"] = lambda n, b=bfloat16: dinoiser_classes(
            inputs[:n], dense.clip, dense.dinoiser, texts, bfloat16=b
        )
    for method, towers in (("clip_diy", diy), ("clip_dinoiser", dense)):
        pipeline = build_pipeline(towers, [method], texts, device)
        works[f"engine: {method}, 448x448"] = lambda n, p=pipeline: p.run(images[:n])
    return {name: tuple(cuda_rate(lambda w=work, n=n: w(n), n) for n in (1, BATCH)) for name, work in works.items()}


def cuda_rate(work: Callable[[], Any], images: int, rounds: int = 20) -> float:
    """Images per second; the best of several calls after a few untimed ones."""
    for _ in range(3):
        work()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return 1e3 * images / min(times)


def _agreement(expected: np.ndarray, found: np.ndarray) -> str:
    return f"{100 * (expected == found).mean():.2f} % of pixels equal, {len(np.unique(expected))} class(es) in the map"


def _print_table(title: str, columns: Sequence[str], rows: dict[str, Any]) -> None:
    header = [("", *columns)] if len(columns) > 1 else []
    cells = [
        (name, *(f"{number:.4g}" for number in (value if isinstance(value, tuple) else (value,))))
        for name, value in rows.items()
    ]
    print(f"\n{title}\n{text_table([*header, *cells], left=1)}", flush=True)


if __name__ == "__main__":
    main()
