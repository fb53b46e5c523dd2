"""Draw what CLIP-DIY finds for prompts: nouns in the demo's photographs, colours and shapes in procedural scenes.

python docs/prompt_sheet.py docs/    # prompts.jpg
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from objloc_ros import load_pipeline
from objloc_ros.cli.demo import MIN_AREA, NOUNS
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.evaluation.held_out_prompts import make_bank, make_captioned_scenes
from objloc_ros.io.contact_sheet import fit_image, make_contact_sheet
from objloc_ros.io.drawing import label_overlay
from objloc_ros.io.media import list_sources, read_image, write_image
from objloc_ros.scenes.panning import PHOTOGRAPHS
from objloc_ros.types import Image

COLUMNS = 4
CELL = (225, 300)
"""Height and width of a picture on the sheet, in pixels; names are written at this size."""

DISTRACTOR = "black ring"
"""Asked for in every scene besides what is there."""


def draw_labels(pipeline: Pipeline, image: Image, prompts: Sequence[str]) -> Image:
    """Return an image in the size of a cell, with the regions of the prompts and their names."""
    pipeline.set_prompts(prompts)
    result = pipeline.run(image)["clip_diy"]
    picture = fit_image(image, CELL)
    labels = cv2.resize(result.label_map(), picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return label_overlay(picture, labels, pipeline.labels.names() if pipeline.labels else {})


def draw_photographs() -> Iterator[tuple[Image, str]]:
    """Yield every photograph with those of the demo's nouns that are found, and its own name."""
    pipeline = load_pipeline(("clip_diy",), "tiny", "cpu", clip="lite_clip")
    pipeline.configure("clip_diy", per_region=True, min_area=MIN_AREA)  # as the demo has it
    prompts = [noun.strip() for noun in NOUNS.split(",")]
    for path in list_sources([PHOTOGRAPHS]):
        yield draw_labels(pipeline, read_image(path), prompts), path.stem.partition("_")[2]


def draw_scenes(count: int = COLUMNS) -> Iterator[tuple[Image, str]]:
    """Yield held-out scenes of three objects with their names, and what is there."""
    pipeline = load_pipeline(("clip_diy",), "tiny", "cpu", clip="tiny_clip")
    pipeline.configure("clip_diy", min_area=MIN_AREA)
    scenes = [scene for scene in make_captioned_scenes(make_bank(), 60) if len(scene.objects) == 3][:count]
    for scene in scenes:
        prompts = dict.fromkeys(f"{attributes.colour} {attributes.shape}" for attributes in scene.objects)
        yield draw_labels(pipeline, scene.image, [*prompts, DISTRACTOR]), ", ".join(prompts)


if __name__ == "__main__":
    drawn, captions = zip(*draw_photographs(), *draw_scenes(), strict=True)
    write_image(Path(sys.argv[1]) / "prompts.jpg", make_contact_sheet(drawn, captions, columns=COLUMNS, cell=CELL))
