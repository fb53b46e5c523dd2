"""Folders of maps as PNG files, paired by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

from objloc_ros.errors import InputError
from objloc_ros.types import Image


def pair(predictions: Path, truth: Path) -> list[tuple[str, Path, Path]]:
    """Find the prediction of each true map, by name without suffix.

    Returns:
        Name, prediction and truth of each map, by name.

    Raises:
        InputError: If a folder is missing or empty, or a true map has no prediction or the other way round.
    """
    answers, truths = _maps(predictions), _maps(truth)
    for missing, folder in ((set(truths) - set(answers), predictions), (set(answers) - set(truths), truth)):
        if missing:
            names = ", ".join(sorted(missing)[:3])
            raise InputError(
                f"{folder} lacks {len(missing)} of {len(truths)} maps: {names}{', ...' * (len(missing) > 3)}"
            )
    return [(name, answers[name], truths[name]) for name in sorted(truths)]


def read_map(path: Path) -> Image:
    """Read an 8-bit map [H, W] with the values that the file holds: palettes are not turned into colours.

    Raises:
        InputError: If it is not a whole image, or has no single channel of 8 bits.
    """
    try:
        with PIL.Image.open(path) as image:
            if image.mode not in ("L", "P", "1"):
                image = _single_channel(path, image)
            pixels = np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return pixels.astype(np.uint8) * np.uint8(255) if pixels.dtype == np.bool_ else pixels


def _single_channel(path: Path, image: PIL.Image.Image) -> PIL.Image.Image:
    """Some published masks are grey pictures saved in colour."""
    pixels = np.array(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or (pixels[..., :3] != pixels[..., :1]).any():
        raise InputError(f"{path} is not a map of one channel of 8 bits, but {image.mode}")
    return PIL.Image.fromarray(np.ascontiguousarray(pixels[..., 0]))


def _maps(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    maps = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".png", ".bmp")}
    if not maps:
        raise InputError(f"the folder {folder} holds no PNG file")
    return maps
