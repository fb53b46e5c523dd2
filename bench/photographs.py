"""The methods on labelled photographs: which boxes hit, how many objects are found, what a picture is called.

photographs.json says which photographs, with their hashes, where they are from in public, and boxes drawn by hand. No
picture is part of the repository: files are known by their SHA-256 whatever they are called, in `--images` and in
scikit-image's installed samples; those that are missing are listed, and the rest is measured.

    python bench/photographs.py --images DIR            the registered weights of `tiny`; seconds on one core
    python bench/photographs.py --images DIR --fetch    download into DIR what is missing
    python bench/photographs.py --images DIR --weights training/tiny/tiny_vit.safetensors --methods lost tokencut
    python bench/photographs.py --images DIR --sheets sheets/       draw a contact sheet per method, too
    python bench/photographs.py --images DIR --licensed --sheets docs/      of those alone that may be shown
    python bench/photographs.py --images DIR --methods --clip tiny_clip      what an open-vocabulary model calls them

Everything runs as in `objloc detect`, with the methods' defaults. They serve development: nothing of them is held out.
"""

from __future__ import annotations

import argparse
import hashlib
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
import torch
from harness import machine, write_json
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from objloc_ros.backbones.weights import load_clip_image
from objloc_ros.data.coco_document import read_truth
from objloc_ros.engine.pipeline import Pipeline, load_pipeline
from objloc_ros.engine.prompts import PromptEncoder
from objloc_ros.engine.results import HeadResult
from objloc_ros.errors import InputError, ObjlocError
from objloc_ros.io.contact_sheet import fit_image, make_contact_sheet
from objloc_ros.io.drawing import OUTLINE_COLOUR, overlay
from objloc_ros.io.media import read_image, write_image
from objloc_ros.io.tables import text_table
from objloc_ros.methods.options import Post
from objloc_ros.metrics import CorLoc, iou
from objloc_ros.types import Image

LABELS = Path(__file__).with_suffix(".json")
METHODS = ("lost", "tokencut", "deep_spectral", "maskcut", "found")
SUFFIXES = (".jpg", ".jpeg", ".png")

HIT_IOU = 0.5
"""Least overlap of a box with the object that it hits."""

CELL = (240, 320)
MOST_COLUMNS = 7
HIT_RGB, MISS_RGB = (60, 230, 90), (255, 110, 40)


@dataclass(frozen=True)
class Photograph:
    """One labelled photograph.

    Args:
        name: File name by its publisher.
        sha256: Hash of its file.
        source: Where it is from, in words.
        url: Where it can be downloaded; "" where an installed package carries it.
        licence: Under which it may be published; "" where its publisher states none.
        boxes: float64 [n, 4] around its objects as (x1, y1, x2, y2) in pixels, max side exclusive.
        nouns: What an ordinary person would call it, each right.
    """

    name: str
    sha256: str
    source: str
    url: str
    licence: str
    boxes: npt.NDArray[np.float64]
    nouns: tuple[str, ...]


@dataclass(frozen=True)
class Judgement:
    """What a method made of one photograph.

    Args:
        main_box: The box that CorLoc asks for, [4]; None where nothing was found.
        overlaps: float64 [boxes, objects], IoU of each box found with each true one.
    """

    main_box: npt.NDArray[np.float32] | None
    overlaps: npt.NDArray[np.float64]

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        """Whether each box hits some object, bool [boxes]."""
        return np.asarray((self.overlaps >= HIT_IOU).any(axis=1))

    @property
    def found(self) -> int:
        """Number of objects that some box hits."""
        return int((self.overlaps >= HIT_IOU).any(axis=0).sum())


def main() -> None:
    """Find the photographs, run the methods, print the table and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="with the photographs, also deeper")
    parser.add_argument("--fetch", action="store_true", help="download missing ones into DIR")
    parser.add_argument("--licensed", action="store_true", help="only photographs that a licence lets one publish")
    parser.add_argument("--labels", type=Path, default=LABELS, metavar="FILE", help="COCO document (default: its own)")
    parser.add_argument("--backbone", default="tiny", help="by its name in the registry (default: %(default)s)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of the backbone (default: the registered ones)")
    parser.add_argument("--head-weights", type=Path, metavar="FILE", help="of FOUND (default: the registered ones)")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS, help="which to run (default: all)")
    parser.add_argument("--post", choices=get_args(Post), help="refinement of MaskCut's masks (default: its own)")
    parser.add_argument("--clip", metavar="NAME", help="also name the photographs with this open-vocabulary model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, and each photograph's")
    parser.add_argument("--sheets", type=Path, metavar="DIR", help="write a contact sheet per method")
    args = parser.parse_args()
    torch.set_num_threads(1)
    try:
        run(args)
    except ObjlocError as error:
        raise SystemExit(f"photographs.py: {error}") from error


def run(args: argparse.Namespace) -> None:
    """Do what `main` says.

    Raises:
        InputError: If no photograph is there, or a file cannot be used.
        ParameterError: If the backbone is unknown.
        WeightsError: If weights are missing or refused.
    """
    where = machine()
    photographs = [one for one in read_photographs(args.labels) if one.licence or not args.licensed]
    files = find_files([args.images, Path(skimage.data.__file__).parent], photographs)
    if args.fetch:
        files |= fetch([photograph for photograph in photographs if photograph.sha256 not in files], args.images)
    present = [photograph for photograph in photographs if photograph.sha256 in files]
    for photograph in photographs:
        if photograph.sha256 not in files:
            print(f"missing: {photograph.name} ({photograph.source}{photograph.url and ': '}{photograph.url})")
    if not present:
        raise InputError(f"{args.images} has none of the {len(photographs)} photographs of {args.labels}: try --fetch")
    objects = sum(len(photograph.boxes) for photograph in present)
    print(f"{len(present)} of {len(photographs)} photographs with {objects} objects; {where}")
    sections: dict[str, Any] = {"machine": where, "photographs": len(present), "objects": objects}
    with threadpool_limits(1):
        if args.methods:
            pipeline = load_pipeline(
                args.methods, args.backbone, "cpu", weights=args.weights, head_weights=args.head_weights
            )
            if args.post and "maskcut" in args.methods:
                pipeline.configure("maskcut", post=args.post)
            judgements, cells = evaluate(pipeline, present, files, draw=args.sheets is not None)
            figures = {method: summarise(judged, present) for method, judged in judgements.items()}
            print(make_table(figures, objects))
            sections |= {"methods": figures, "each": describe_each(judgements, present)}
            if args.sheets:
                draw_sheets(args.sheets, judgements, cells, present)
        if args.clip:
            names = name_photographs(args.clip, present, files, read_distractors(args.labels))
            print(describe_names(names, present))
            sections["names"] = {photograph.name: name for photograph, name in zip(present, names, strict=True)}
    if args.json:
        write_json(args.json, **sections)


def read_photographs(path: Path) -> list[Photograph]:
    """Read the labels.

    Raises:
        InputError: If the file is no COCO document, or an image lacks its name or hash.
    """
    truth = read_truth(path)
    boxes = truth.boxes()
    for image in truth.document["images"]:
        for name in ("file_name", "sha256"):
            if not isinstance(image.get(name), str):
                raise InputError(f"{path}: image {image['id']!r} must have a text {name}, got {image.get(name)!r}")
    return [
        Photograph(
            name=image["file_name"],
            sha256=image["sha256"],
            source=image.get("source", "source unknown"),
            url=image.get("url", ""),
            licence=image.get("licence", ""),
            boxes=boxes[image["id"]],
            nouns=tuple(image.get("nouns", ())),
        )
        for image in truth.document["images"]
    ]


def read_distractors(path: Path) -> list[str]:
    """Read the ordinary nouns that fit none of the photographs, from the same document."""
    return list(read_truth(path).document["info"].get("distractors", ()))


def find_files(folders: Iterable[Path], photographs: Sequence[Photograph]) -> dict[str, Path]:
    """Find the photographs' files below some folders, whatever they are called: paths by hash.

    Raises:
        InputError: If a file cannot be read.
    """
    wanted = {photograph.sha256 for photograph in photographs}
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                try:
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                except OSError as error:
                    raise InputError(f"cannot read {path}: {error.strerror}") from error
                if digest in wanted:
                    found.setdefault(digest, path)
    return found


def fetch(photographs: Sequence[Photograph], folder: Path) -> dict[str, Path]:
    """Download photographs: the paths of those that came, by hash; what fails or has changed is said and left out."""
    folder.mkdir(parents=True, exist_ok=True)
    fetched = {}
    for photograph in photographs:
        if not photograph.url:
            continue
        try:
            with urllib.request.urlopen(photograph.url, timeout=30) as answer:
                data = answer.read()
        except OSError as error:
            print(f"cannot fetch {photograph.url}: {error}")
            continue
        digest = hashlib.sha256(data).hexdigest()
        if digest != photograph.sha256:
            print(f"{photograph.url} has the SHA-256 {digest}, not {photograph.sha256}: left out")
            continue
        fetched[digest] = folder / photograph.name
        fetched[digest].write_bytes(data)
    return fetched


def evaluate(
    pipeline: Pipeline, photographs: Sequence[Photograph], files: Mapping[str, Path], *, draw: bool
) -> tuple[dict[str, list[Judgement]], dict[str, list[Image]]]:
    """Run every method on every photograph: judgements, and the cells of the sheets if they are drawn, by method."""
    judgements: dict[str, list[Judgement]] = {method: [] for method in pipeline.methods}
    cells: dict[str, list[Image]] = {method: [] for method in pipeline.methods}
    for photograph in tqdm(photographs, unit="photograph", disable=None, leave=False):
        image = read_image(files[photograph.sha256])
        result = pipeline.run(image)
        for method in pipeline.methods:
            judged = judge(result[method], photograph)
            judgements[method].append(judged)
            if draw:
                cells[method].append(draw_cell(image, result[method], judged, photograph))
    return judgements, cells


def judge(result: HeadResult, photograph: Photograph) -> Judgement:
    """Compare what a method found with the truth."""
    main_box = result.main_box()
    return Judgement(main_box[0] if len(main_box) else None, iou(result.detections.boxes, photograph.boxes))


def summarise(judgements: Sequence[Judgement], photographs: Sequence[Photograph]) -> dict[str, float]:
    """Compute a method's figures.

    Returns:
        "corloc" and "any", the fractions of photographs in which the main box, and some box, hits an object; "found",
        the number of objects that some box hits; "iou", the mean over photographs of the best IoU of any box and
        object, which tells models apart that hit the same; "boxes", the mean number of boxes per photograph.
    """
    corloc = CorLoc()
    corloc.update(
        [None if judged.main_box is None else judged.main_box.tolist() for judged in judgements],
        [photograph.boxes for photograph in photographs],
    )
    return {
        "corloc": corloc.compute(),
        "any": float(np.mean([judged.hits.any() for judged in judgements])),
        "found": sum(judged.found for judged in judgements),
        "iou": float(np.mean([judged.overlaps.max(initial=0) for judged in judgements])),
        "boxes": float(np.mean([len(judged.overlaps) for judged in judgements])),
    }


def name_photographs(
    clip: str, photographs: Sequence[Photograph], files: Mapping[str, Path], distractors: Sequence[str]
) -> list[str]:
    """Name each photograph by the noun whose embedding is closest to that of the whole picture.

    Args:
        clip: The model's name in the registry.
        photographs: Their nouns, all together, are what is chosen from.
        files: Their paths by hash.
        distractors: Further nouns to choose from.

    Raises:
        ParameterError: If the model is unknown, or a noun to it.
        WeightsError: If weights are missing or refused.
    """
    device = torch.device("cpu")
    tower, encoder = load_clip_image(clip, device=device), PromptEncoder(clip, device=device)
    nouns = sorted({noun for photograph in photographs for noun in photograph.nouns} | set(distractors))
    texts = encoder.encode(nouns).texts[1:]
    mean, std = (255 * torch.tensor(values)[:, None, None] for values in (tower.mean, tower.std))
    names = []
    for photograph in tqdm(photographs, unit="photograph", disable=None, leave=False):
        # Squeezed into the tower's square, so that nothing is cut off.
        image = cv2.resize(read_image(files[photograph.sha256]), (tower.side,) * 2, interpolation=cv2.INTER_AREA)
        pixels = torch.from_numpy(image).permute(2, 0, 1).float()  # 3 S S
        with torch.inference_mode():
            similarity = texts @ tower(((pixels - mean) / std)[None])[0]
        names.append(nouns[int(similarity.argmax())])
    return names


def describe_names(names: Sequence[str], photographs: Sequence[Photograph]) -> str:
    """Say how many names are right, and which are not."""
    pairs = list(zip(names, photographs, strict=True))
    wrong = [f"{one.name}: {name}, not {' or '.join(one.nouns)}" for name, one in pairs if name not in one.nouns]
    return "\n".join([f"named right: {len(pairs) - len(wrong)} of {len(pairs)}", *(f"  {line}" for line in wrong)])


def make_table(figures: Mapping[str, Mapping[str, float]], objects: int) -> str:
    """Make a table with a row per method."""
    rows: list[tuple[str, ...]] = [("", "CorLoc", "any box", f"found of {objects}", "mean IoU", "boxes each")]
    for method, row in figures.items():
        shares = (f"{row[name]:.3f}" for name in ("corloc", "any"))
        rows.append((method, *shares, f"{row['found']:.0f}", f"{row['iou']:.3f}", f"{row['boxes']:.1f}"))
    return text_table(rows, left=1)


def describe_each(
    judgements: Mapping[str, Sequence[Judgement]], photographs: Sequence[Photograph]
) -> dict[str, dict[str, Any]]:
    """Return per photograph and method the best IoU, and the number of objects found; and that of its objects."""
    return {
        photograph.name: {
            "objects": len(photograph.boxes),
            **{
                method: {"iou": round(float(judged[place].overlaps.max(initial=0)), 3), "found": judged[place].found}
                for method, judged in judgements.items()
            },
        }
        for place, photograph in enumerate(photographs)
    }


def draw_cell(image: Image, result: HeadResult, judged: Judgement, photograph: Photograph) -> Image:
    """Draw the masks, thin white lines around the objects, and the boxes: green where they hit, orange where not."""
    scale = min(CELL[0] / image.shape[0], CELL[1] / image.shape[1])
    canvas = fit_image(overlay(image, result.label_map()), CELL)
    for box in photograph.boxes:
        draw_box(canvas, box * scale, OUTLINE_COLOUR, 1)
    for box, hit in zip(result.detections.boxes, judged.hits, strict=True):
        draw_box(canvas, box * scale, HIT_RGB if hit else MISS_RGB, 2)
    return canvas


def draw_box(canvas: Image, box: npt.NDArray[np.floating], colour: tuple[int, int, int], line: int) -> None:
    """Draw a rectangle inside a box's borders, in place."""
    x1, y1, x2, y2 = (round(float(corner)) for corner in box)
    inner = line // 2
    cv2.rectangle(canvas, (x1 + inner, y1 + inner), (x2 - 1 - inner, y2 - 1 - inner), colour, line)


def draw_sheets(
    folder: Path,
    judgements: Mapping[str, Sequence[Judgement]],
    cells: Mapping[str, Sequence[Image]],
    photographs: Sequence[Photograph],
) -> None:
    """Write photographs_METHOD.jpg for each method, with what it hit below each photograph."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = -(-len(photographs) // MOST_COLUMNS)
    columns = -(-len(photographs) // rows)  # rows of equal length, as far as that goes
    for method, judged in judgements.items():
        captions = [
            f"{one.found} of {len(photograph.boxes)}, best IoU {one.overlaps.max(initial=0):.2f}"
            for one, photograph in zip(judged, photographs, strict=True)
        ]
        sheet = make_contact_sheet(cells[method], captions, columns=columns, cell=CELL)
        write_image(folder / f"photographs_{method}.jpg", sheet)


if __name__ == "__main__":
    main()
