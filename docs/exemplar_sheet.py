"""Draw classes by example: a box on each of the demo's photographs, and what is found in another view of it.

python docs/exemplar_sheet.py docs/    # exemplars.jpg

The other view is the photograph mirrored, turned by 10 degrees, enlarged by a fifth, darker and yellower.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from objloc_ros import load_pipeline
from objloc_ros.io.contact_sheet import fit_image, make_contact_sheet
from objloc_ros.io.drawing import label_overlay
from objloc_ros.io.media import read_image, write_image
from objloc_ros.scenes.panning import PHOTOGRAPHS
from objloc_ros.types import UNLABELLED, Image

COLUMNS = 4
CELL = (225, 300)
"""Height and width of a picture on the sheet, in pixels."""

BOX_RGB = (255, 235, 0)

SHOWN = {
    "1_dogs": ("dog", (160, 15, 330, 185)),
    "2_coffee": ("cup", (170, 10, 450, 370)),
    "4_dandelion": ("dandelion", (115, 30, 390, 270)),
    "5_bowl": ("fig", (230, 170, 440, 370)),
    "6_rocket": ("rocket", (270, 140, 310, 460)),
    "8_room": ("drum", (20, 220, 420, 470)),
}
"""Name and box (x1, y1, x2, y2) of what is shown on each photograph."""


def change_view(image: Image) -> Image:
    """Return another view of a photograph, of its size."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 10, 1.2)
    turned = cv2.warpAffine(np.ascontiguousarray(image[:, ::-1]), turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    light = (turned / 255.0) ** 1.15 * 255 * (0.95, 0.92, 0.86)
    return np.clip(light, 0, 255).astype(np.uint8)


def draw_pairs() -> Iterator[tuple[Image, str]]:
    """Yield every photograph with its box, then its other view with what was found."""
    pipeline = load_pipeline(("maskclip",), "tiny", "cpu")
    for stem, (name, box) in SHOWN.items():
        photograph = read_image(PHOTOGRAPHS / f"{stem}.jpg")
        exemplar = pipeline.learn_exemplar(photograph, box)
        labels = pipeline.use_prompts(pipeline.encode_prompts(["object"], exemplars={name: exemplar}))
        number = labels.ids[-1]
        boxed = cv2.rectangle(photograph.copy(), box[:2], box[2:], BOX_RGB, 4)
        yield fit_image(boxed, CELL), f"{name}: shown"
        view = change_view(photograph)
        found = pipeline.run(view)["maskclip"].label_map()
        picture = fit_image(view, CELL)
        mask = np.where(found == number, number, UNLABELLED).astype(np.uint8)
        mask = cv2.resize(mask, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        yield label_overlay(picture, mask, {number: name}), f"{name}: found"


if __name__ == "__main__":
    drawn, captions = zip(*draw_pairs(), strict=True)
    write_image(Path(sys.argv[1]) / "exemplars.jpg", make_contact_sheet(drawn, captions, columns=COLUMNS, cell=CELL))
