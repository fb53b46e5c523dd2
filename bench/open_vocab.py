"""The open-vocabulary methods: CLIP-DIY against its literal formulation, frames, batches, and what new prompts cost.

    python bench/open_vocab.py            full size, a quarter of an hour on two cores
    python bench/open_vocab.py --smoke    under a minute; shows that everything runs and agrees

The large towers have random weights, on which times do not depend. Nothing is asserted about time. Single-threaded by
default, except for the node, which runs as it would on a robot.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import literal_open_vocab as literal
import numpy as np
import torch
from harness import Pair, machine, print_pairs, wall_ms, write_json
from open_clip.transformer import TextTransformer
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.backbones.clip import ClipImage, build_clip_image, build_text_transformer
from objloc_ros.backbones.clip_text import ClipText
from objloc_ros.backbones.clip_weights import KNOWN, VISUAL
from objloc_ros.backbones.registry import entry_of
from objloc_ros.backbones.tokens import SPECIAL, Tokenizer
from objloc_ros.backbones.weights import load_backbone
from objloc_ros.engine.device import has_bfloat16_units
from objloc_ros.engine.found import FoundHead
from objloc_ros.engine.pipeline import Pipeline, load_pipeline
from objloc_ros.engine.prompts import BACKGROUND, DEFAULT_TEMPLATES, IMAGENET, EncodedPrompts, check_prompts, expanded
from objloc_ros.engine.segmentation import SegmentationHead, Towers
from objloc_ros.methods import clip_dinoiser as dinoiser
from objloc_ros.methods.clip_dinoiser import DinoiserHead
from objloc_ros.methods.clip_diy import PATCH_SIZES, SIDE, fuse, resized_windows, similarity, split_windows
from objloc_ros.methods.clip_diy import windows_per_row as per_row
from objloc_ros.methods.maskclip import value_features
from objloc_ros.scenes.attributes import COLOURS, PATTERNS, SHAPES
from objloc_ros.scenes.video import drive_video
from objloc_ros.types import Image, LabelSet, Size

CPU = torch.device("cpu")
BATCH = 8
AT_ONCE = 20
"""Prompts that change together."""

BEFORE_S = 5
"""Seconds before a change that the second of the change is compared with."""

CAMERA = "/camera"
START_LIMIT_S = 180.0

CLASSES = (
    BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv/monitor",
)  # fmt: skip
"""Pascal VOC's, as CLIP-DIY names them."""

SENTENCES = ("{} {} {}", "picture of a {} {} {}", "photo of the {} {} {}")
"""Around a colour, a pattern and a shape: prompts of words that the embedded pair knows."""


PARTS = ("literal", "frames", "prompts", "node", "gpu")


class Model(NamedTuple):
    """Both towers of a CLIP model."""

    image: ClipImage
    text: TextTransformer
    tokenizer: Tokenizer


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
            turns = [(one[0] + one[1] * with_text, one[number]) for one in times]
            yield Pair(
                f"{name} {'bf16' if bfloat16 else 'fp32'}, literal {'with' if with_text else 'without'} text",
                *(min(column) for column in zip(*turns, strict=True)),
                agreement[bfloat16],
                wanted=2 if bfloat16 else 1,
                rounds=turns,
            )


def diy_classes(
    pixels: Tensor,
    tower: ClipImage,
    texts: Tensor,
    saliency: Tensor,
    *,
    scales: Sequence[int] = PATCH_SIZES,
    bfloat16: bool = False,
) -> Tensor:
    """CLIP-DIY as the product computes it, laid out as in the original: int64 [B, SIDE, SIDE].

    Args:
        pixels: uint8 [B, 3, SIDE, SIDE].
        tower: CLIP's image tower.
        texts: Unit vectors [C, D], the background's first.
        saliency: float32 [B, SIDE, SIDE].
        scales: Sides of the windows.
        bfloat16: Run the tower in it.
    """
    cut = resized_windows(pixels, tower.side, scales).float()
    mean, std = (torch.tensor(value, device=pixels.device)[:, None, None] * 255 for value in (tower.mean, tower.std))
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bfloat16):
        embedded = tower((cut - mean) / std)
    scattered = split_windows(embedded, len(pixels), per_row(patch_sizes=scales))
    return fuse(similarity(scattered, texts, size=SIDE), saliency)


def dinoiser_classes(
    inputs: Tensor, tower: ClipImage, head: DinoiserHead, texts: Tensor, *, bfloat16: bool = False
) -> Tensor:
    """CLIP-DINOiser with its background as the product computes it, one pass per image: int64 [B, H, W]."""
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bfloat16):
        tokens = tower.tokens(inputs)
        features = value_features(tower, tokens)
    correlations, objects = head(tokens.middle, tokens.grid)
    found = dinoiser.probabilities(dinoiser.pooled(features, correlations), texts).unflatten(2, tokens.grid)
    found = dinoiser.apply_background(found, objects <= 0)
    return F.interpolate(found, size=inputs.shape[-2:], mode="bilinear", align_corners=False).argmax(1)


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
                encoded = EncodedPrompts(LabelSet.following(prompts), torch.empty(1 + AT_ONCE, model.text.output_dim))
                steps: tuple[Callable[[], Any], ...] = (
                    lambda p=prompts, n=name, t=templates: check_prompts(n, p, t),
                    lambda p=prompts, e=tower, t=templates: e.encode([BACKGROUND, *p], expanded(t)),
                    lambda p=prompts, e=tower, t=templates: e.encode([BACKGROUND, *p], expanded(t)),
                    lambda e=encoded: pipeline.use_prompts(e),
                )
                times.append([wall_ms(step) for step in steps])
            if times:
                costs[f"{name}, {len(expanded(templates))} template(s)"] = tuple(np.median(times, axis=0).tolist())
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


def live_changes(rate: float, changes: int, before_s: float) -> dict[str, float]:
    """What a running node's frames lose while its prompts change, heard over DDS from a process of its own.

    Frames in a second are read from a line through the answers' times of arrival, so that their number is not a whole
    one. The second before each change, compared in the same way, shows what is noise.
    """
    from objloc_ros.cli.children import Child
    from objloc_ros.nodes.profile import fast_dds_environment

    os.environ.update(fast_dds_environment(), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def child(name: str, *options: str) -> Child:
            module = ("-m", f"objloc_ros.nodes.{name}", "--ros-args", "-r", f"__ns:={CAMERA}")
            command = [sys.executable, *module, *(part for option in options for part in ("-p", option))]
            return stack.enter_context(Child(name, command, log=folder / f"{name}.log"))

        children = [
            child("segmentation", "idle_priority:=false"),
            child("image_source", f"rate:={rate}", "wait_for_subscribers:=1"),
        ]
        listener = stack.enter_context(listening(lambda: [one.check() for one in children]))
        fresh = fresh_prompts()
        listener.change(next(fresh))
        listener.wait(lambda: listener.answers, START_LIMIT_S, "an answer")
        times, delays = [], []
        for number in range(changes):
            pause = 1 + before_s + 0.618 * number % 1  # changes come anywhere between two frames
            listener.spin(pause)
            start, taken_over = listener.change(next(fresh))
            times.append(start)
            delays.append(1e3 * (taken_over - start))
        listener.spin(1.5)
    answers = np.array(listener.answers)
    lost = np.array([loss(answers, start, before_s) for start in times])
    noise = np.array([loss(answers, start - 1, before_s - 1) for start in times])
    root = np.sqrt(changes)
    return {
        "frames/s between changes": float(np.mean([answered(answers, t - before_s, t) / before_s for t in times])),
        "lost in the second of the change, mean %": float(lost.mean()),
        "  standard deviation": float(lost.std(ddof=1)),
        "  standard error of the mean": float(lost.std(ddof=1) / root),
        "lost in the second before it, mean %": float(noise.mean()),
        "  standard deviation ": float(noise.std(ddof=1)),
        "  standard error of the mean ": float(noise.std(ddof=1) / root),
        "ms from request to LabelInfo, median": float(np.median(delays)),
        "  largest": float(np.max(delays)),
    }


def loss(answers: np.ndarray, start: float, before_s: float) -> float:
    """Percent of frames that the second from `start` lacks, compared with the mean of the seconds before."""
    usual = answered(answers, start - before_s, start) / before_s
    return 100 * (1 - answered(answers, start, start + 1) / usual)


def answered(answers: np.ndarray, start: float, end: float) -> float:
    """Frames answered in an interval, with fractions, from ascending times of arrival in seconds."""
    return float(np.subtract(*np.interp((end, start), answers, np.arange(len(answers)))))


@contextmanager
def listening(check: Callable[[], Any]) -> Iterator[Any]:
    """The rest of the robot: hears answers and label sets, and changes the prompts; `check` looks after the others."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from vision_msgs.msg import Detection2DArray, LabelInfo

    from objloc_ros.nodes.labels import label_info_qos

    class Listener:
        def __init__(self, node: Node, executor: SingleThreadedExecutor) -> None:
            self.answers: list[float] = []
            self._executor = executor
            self._labels: dict[frozenset[str], float] = {}
            topic = f"{CAMERA}/segmentation"
            node.create_subscription(Detection2DArray, f"{topic}/detections", self._hear, 20, raw=True)
            node.create_subscription(LabelInfo, f"{topic}/label_info", self._learn, label_info_qos())
            self._set = node.create_client(SetParameters, f"{topic}/set_parameters")

        def change(self, prompts: Sequence[str]) -> tuple[float, float]:
            """Set prompts; when that was asked for, and when the label set came."""
            self.wait(self._set.service_is_ready, START_LIMIT_S, "the node")
            parameter = Parameter("prompts", value=list(prompts)).to_parameter_msg()
            start = time.time()
            future = self._set.call_async(SetParameters.Request(parameters=[parameter]))
            names = frozenset(prompts)
            self.wait(lambda: future.done() and names in self._labels, START_LIMIT_S, "the new label set")
            (result,) = future.result().results
            if not result.successful:
                raise RuntimeError(f"the prompts were refused: {result.reason}")
            return start, self._labels[names]

        def spin(self, seconds: float) -> None:
            """Hear for some time."""
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                self._executor.spin_once(timeout_sec=min(left, 0.05))
                check()

        def wait(self, condition: Callable[[], Any], limit_s: float, what: str) -> None:
            """Hear until something is true."""
            end = time.monotonic() + limit_s
            while not condition():
                self.spin(0.01)
                if time.monotonic() > end:
                    raise TimeoutError(f"{what} did not come within {limit_s:.0f} s")

        # rclpy tells the two kinds of callback apart by their number of arguments. The times are the middleware's.
        def _hear(self, _data: bytes, info: dict[str, int]) -> None:
            self.answers.append(info["received_timestamp"] / 1e9)

        def _learn(self, message: LabelInfo, info: dict[str, int]) -> None:
            names = frozenset(one.class_name for one in message.class_map)
            self._labels[names] = info["received_timestamp"] / 1e9

    context = Context()
    context.init()
    node = Node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield Listener(node, executor)
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()


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


def build_model(name: str) -> Model:
    """Both towers: the embedded weights of `tiny_clip`, random ones of any other."""
    image = build_clip_image(name).eval()
    if name != "tiny_clip":
        return Model(image, build_text_transformer(name).eval(), Tokenizer(image.spec.context))
    state = load_file(entry_of(name).path)
    known = state.pop(KNOWN)
    text = build_text_transformer(name, len(known) + SPECIAL).eval()
    image.visual.load_state_dict({k.removeprefix(VISUAL): v for k, v in state.items() if k.startswith(VISUAL)})
    text.load_state_dict({k: v for k, v in state.items() if k in text.state_dict()})
    return Model(image, text, Tokenizer(image.spec.context, known))


def build_towers(name: str, device: torch.device = CPU) -> Towers:
    """What the heads run on; CLIP-DINOiser's convolutions are random."""
    clip = build_model(name).image if name == "tiny_clip" else build_clip_image(name).eval()
    found = FoundHead(backbone="tiny", path=None, device=device)
    return Towers(clip.to(device), found, DinoiserHead(clip.spec.width).eval().to(device))


def build_pipeline(towers: Towers, methods: Sequence[str], texts: Tensor, device: torch.device = CPU) -> Pipeline:
    """An engine around the embedded backbone and any towers, without a file for them.

    Args:
        towers: What the heads run on.
        methods: The heads.
        texts: Unit vectors [1 + P, D], the background's first; the prompts are named like `CLASSES`.
        device: Where it runs.
    """
    vit = load_backbone("tiny", device=device)
    heads = {method: SegmentationHead(method, towers, device) for method in methods}
    pipeline = Pipeline(vit, heads, backbone_name="tiny", device=device, short_side=vit.spec.short_side)
    pipeline.use_prompts(EncodedPrompts(LabelSet.following(CLASSES[1 : len(texts)]), texts))
    return pipeline


def random_texts(towers: Towers, device: torch.device = CPU) -> Tensor:
    """Unit vectors in the place of `CLASSES`."""
    return F.normalize(torch.randn(len(CLASSES), towers.clip.embed_dim, device=device), dim=-1)


def fresh_prompts() -> Iterator[tuple[str, ...]]:
    """Sets of prompts, no prompt in two of them."""
    each = (sentence.format(*words) for sentence in SENTENCES for words in product(COLOURS, PATTERNS, SHAPES))
    return zip(*(each,) * AT_ONCE, strict=False)


def frames(count: int, size: Size = (480, 640)) -> list[Image]:
    """Frames of the procedural drive."""
    return [image for image, _ in drive_video(seed=3, size=size, frames=count)]


def squares(images: Sequence[Image]) -> Tensor:
    """Images as CLIP-DIY takes them, uint8 [B, 3, SIDE, SIDE]."""
    resized = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for image in images])
    return torch.from_numpy(resized).permute(0, 3, 1, 2)


def smooth_saliency(count: int) -> Tensor:
    """Something in the place of FOUND's maps: float32 [B, SIDE, SIDE] in [0, 1]."""
    coarse = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]


def _agreement(expected: np.ndarray, found: np.ndarray) -> str:
    return f"{100 * (expected == found).mean():.2f} % of pixels equal, {len(np.unique(expected))} class(es) in the map"


def _print_table(title: str, columns: Sequence[str], rows: dict[str, Any]) -> None:
    print(f"\n{title}")
    if len(columns) > 1:
        print(f"  {'':46}" + "".join(f"{column:>12}" for column in columns))
    for name, value in rows.items():
        numbers = value if isinstance(value, tuple) else (value,)
        print(f"  {name:46}" + "".join(f"{number:12.4g}" for number in numbers), flush=True)


if __name__ == "__main__":
    main()
