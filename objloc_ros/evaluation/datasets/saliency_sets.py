"""Saliency data sets: a folder of images and one of maps with the same names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from objloc_ros.errors import InputError
from objloc_ros.evaluation.datasets.base import Dataset, SaliencySet, Sample, folder_in
from objloc_ros.ops.media import IMAGE_SUFFIXES

LAYOUTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "ecssd": ("", ("images",), ("ground_truth_mask",)),
    "dut_omron": ("", ("DUT-OMRON-image",), ("pixelwiseGT-new-PNG",)),
    "duts_tr": ("train", ("DUTS-TR/DUTS-TR-Image", "DUTS-TR-Image"), ("DUTS-TR/DUTS-TR-Mask", "DUTS-TR-Mask")),
    "duts_te": ("test", ("DUTS-TE/DUTS-TE-Image", "DUTS-TE-Image"), ("DUTS-TE/DUTS-TE-Mask", "DUTS-TE-Mask")),
}
"""Per data set its split, and where images and maps may lie: ECSSD (Yan et al., CVPR 2013), DUT-OMRON (Yang et al.,
CVPR 2013), DUTS (Wang et al., CVPR 2017)."""


def open_saliency(name: str) -> Callable[[Path], Dataset]:
    """How one of `LAYOUTS` is opened."""
    split, images, maps = LAYOUTS[name]

    def opened(root: Path) -> Dataset:
        pictures, truth = folder_in(root, images), folder_in(root, maps)
        files = sorted(path for path in pictures.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise InputError(f"the folder {pictures} holds no image")
        samples = [Sample(path.stem, path, truth / f"{path.stem}.png") for path in files]
        if len({sample.key for sample in samples}) != len(samples):
            raise InputError(f"the folder {pictures} has images of the same name with different suffixes")
        return SaliencySet(name, split, tuple(samples))

    return opened
