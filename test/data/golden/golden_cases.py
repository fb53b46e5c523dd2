"""What the tests read of the original implementations' outputs; the README beside this file describes the arrays."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

GOLDEN = Path(__file__).resolve().parent
MIN_EIGENVALUE_GAP, MIN_MARGIN = 1e-6, 1e-9
"""Closer eigenvalues, and entries closer to their mean (in standard deviations), are told apart by rounding only."""

Case = dict[str, np.ndarray]

DEVICE = torch.device(os.environ.get("OBJLOC_GOLDEN_DEVICE", "cpu"))
"""Where methods that run on tensors get theirs; `bench/gpu.py` says "cuda"."""
if DEVICE.type == "cuda":  # convolutions of 10-bit mantissas are not the originals'
    torch.backends.cudnn.allow_tf32 = False


def find_cases(method: str) -> list[Path]:
    """Find the files of a method's cases, sorted by name.

    Raises:
        FileNotFoundError: There are none; an empty list would pass for a test without parameters.
    """
    if not (paths := sorted((GOLDEN / method).glob("case*.npz"))):
        raise FileNotFoundError(f"no case*.npz in {GOLDEN / method}: check the files out again")
    return paths


def load_case(path: Path) -> Case:
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


def to_device(values: np.ndarray) -> torch.Tensor:
    """Return an array as a tensor on the device that is tested, in its own type."""
    return torch.from_numpy(values).to(DEVICE)


def to_host(values: torch.Tensor | np.ndarray) -> np.ndarray:
    """Return what a method answers, wherever it is, as an array."""
    return values if isinstance(values, np.ndarray) else values.numpy(force=True)


def load_features(case: Case) -> torch.Tensor:
    """Load the patch features that a case was computed from: float32 [1, N, C]."""
    features = load_case(GOLDEN / "features" / f"case{int(case['features_case']):02d}.npz")["features"]
    return to_device(features.astype(np.float32))[None]


def decode_image(case: Case) -> np.ndarray:
    """Decode the picture of a case: RGB uint8 [H, W, 3]."""
    return cv2.cvtColor(cv2.imdecode(case["image_png"], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def unpack_masks(bits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Unpack masks of (height, width) from the bits of their rows, uint8 [N, ceil(H*W/8)]: bool [N, H, W]."""
    return np.unpackbits(bits, axis=1)[:, : size[0] * size[1]].reshape(-1, *size).astype(bool)


def have_no_partition(eigenvalues: np.ndarray, margins: np.ndarray) -> np.ndarray:
    """Tell which cuts have no answer but noise, from their second and third eigenvalues [N, 2] and margins [N]."""
    return (np.diff(eigenvalues, axis=1)[:, 0] < MIN_EIGENVALUE_GAP) | (margins < MIN_MARGIN)


def are_arbitrary_cuts(case: Case) -> np.ndarray:
    """Tell for each round of a MaskCut case whether rounding or an eigenvector's sign decides its answer: bool [N]."""
    arbitrary: np.ndarray = have_no_partition(case["lambda23"], case["min_margin"])
    return arbitrary | case["sign_sensitive"] | case["seed_ambiguous"]


def _is_ill_posed_lost(case: Case) -> bool:
    return "error" in case or case["n_tied_min"] > 1


def _is_ill_posed_tokencut(case: Case) -> bool:
    eigenvalues = np.stack([case["lambda2"], case["lambda3"]])[None]
    return bool(have_no_partition(eigenvalues, case["min_margin"])) or case["tied_seed_components"] > 1


def _is_ill_posed_maskcut(case: Case) -> bool:
    return "error" in case or bool(are_arbitrary_cuts(case).any())


IS_ILL_POSED: dict[str, Callable[[Case], bool]] = {
    "bilateral": lambda case: case["n_near_half"] > 0 or np.ptp(case["target"]) == 0,
    "clipdiy": lambda case: case["n_near_tie"] > 0,
    "cutler_copy_paste": lambda case: case["target_masks"].size == 0,
    "cutler_droploss": lambda case: case["counts"].min() == 0,
    "dss": lambda case: np.diff(case["truth_eigenvalues"])[:2].min() < MIN_EIGENVALUE_GAP,
    "found_bkg": lambda case: np.ptp(case["cls_attention"][:, 1:], axis=1).max() == 0,
    "found_head": lambda case: case["box_upsampled"].size == 0,
    "lost": _is_ill_posed_lost,
    "maskcut": _is_ill_posed_maskcut,
    "selfmask_loss": lambda case: not case["gt"].any((1, 2, 3)).all(),
    "selfmask_vote": lambda case: len(case["kept"]) == len(case["masks"]),
    "tokencut": _is_ill_posed_tokencut,
}
"""By method: whether the original has no answer to a case, or one that ties and rounding decide."""

ALWAYS_WELL_POSED = {
    "cutler_cascade",
    "cutler_merge",
    "lod_phm",
    "lod_ranking",
    "lost_cad_boxes",
    "lost_od_clusters",
    "lost_od_eval",
    "selfmask_net",
    "selfmask_rate",
    "rcnn_weights",
    "selfmask_spectral",
}
"""Folders whose every case has one answer."""
