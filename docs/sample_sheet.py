"""Draw the model card's contact sheet: FOUND on the sample pictures that scikit-image ships.

python docs/sample_sheet.py docs/samples.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from skimage import data

from objloc_ros import load_pipeline
from objloc_ros.ops.contact_sheet import contact_sheet
from objloc_ros.ops.drawing import overlay
from objloc_ros.ops.media import write_image
from objloc_ros.types import Image

NAMES = ("astronaut", "camera", "chelsea", "coffee", "coins", "horse", "rocket", "stereo_motorcycle")


def picture(name: str) -> Image:
    """A sample picture as RGB uint8 [H, W, 3]."""
    pixels = getattr(data, name)()
    pixels = pixels[0] if isinstance(pixels, tuple) else pixels
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def main(target: Path) -> None:
    """Run FOUND on every sample and write the sheet."""
    pipeline = load_pipeline(backbone="tiny", device="cpu")
    drawn = []
    for image in map(picture, NAMES):
        found = pipeline.run(image)["found"]
        drawn.append(overlay(image, found.mask_u8(), found.detections))
    write_image(target, contact_sheet(drawn, NAMES, columns=4))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
