"""The options of the methods; a method may need torch to run, but not to be chosen.

Every default, range and help stands here once: node tables, command line and documents follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from objloc_ros.options import Options, option

Mode = Literal["multi", "single"]
FoundPost = Literal["none", "bilateral"]
Post = Literal["none", "bilateral", "crf"]
Candidates = Literal["all", "clusters"]
Placement = Literal["tiled", "centred", "nearest"]
Background = Literal["found", "prompt", "none"]
Correlations = Literal["auto", "head", "dino"]


@dataclass(frozen=True)
class FoundOptions(Options):
    """What becomes of the saliency map."""

    threshold: float = option(0.5, "Saliency above which a pixel belongs to an object.", low=0, high=1)
    mode: Mode = option("multi", "`single`: only the largest object; `multi`: every one.", choices=get_args(Mode))
    post: FoundPost = option(
        "none",
        "`bilateral` moves the mask to the edges of the image, at some cost, where the result still overlaps it.",
        choices=get_args(FoundPost),
    )
    min_area: float = option(0.001, "Smallest object, as a fraction of the image's area.", low=0, high=1)
    max_detections: int = option(50, "Most objects in one frame; the best stay.", low=1, high=1000)


def post_option(default: Post) -> Post:
    """Return the option of a method that chooses among the refinements."""
    help = "`bilateral` (TokenCut's) and `crf` (MaskCut's) fit masks to the edges of the image, at some cost."
    return option(default, help, choices=get_args(Post))


@dataclass(frozen=True)
class LostOptions(Options):
    """LOST's choices."""

    k_patches: int = option(100, "Patches of lowest degree that may help to expand the seed.", low=1)
    post: Post = post_option("none")


@dataclass(frozen=True)
class TokenCutOptions(Options):
    """TokenCut's choices."""

    tau: float = option(0.2, "Cosine above which two patches are linked.", low=-1, high=1)
    eps: float = option(1e-5, "Weight of all other pairs of patches.", low=0, high=1, exclusive=True)
    binary: bool = option(True, "Links weigh 1; off, they weigh their cosine.")
    post: Post = post_option("none")


@dataclass(frozen=True)
class DeepSpectralOptions(Options):
    """The choices of Deep Spectral Methods."""

    n_vectors: int = option(
        5, "Eigenvectors to compute, the constant one among them; the object is read from the second.", low=2
    )
    post: Post = post_option("none")


@dataclass(frozen=True)
class MaskCutOptions(Options):
    """MaskCut's choices."""

    n_masks: int = option(3, "Most objects to find.", low=1)
    tau: float = option(0.15, "Cosine above which two patches are linked.", low=0, high=1)
    eps: float = option(1e-5, "Weight of all other pairs of patches.", low=0, high=1, exclusive=True)
    post: Post = post_option("crf")


@dataclass(frozen=True)
class DinoSegOptions(Options):
    """DINO-seg's choices."""

    head: int = option(4, "Index of the attention head, from 0.", low=0)
    mass: float = option(0.6, "Part of the head's attention that the kept patches hold.", low=0, high=1, exclusive=True)
    post: Post = post_option("none")


@dataclass(frozen=True)
class VoteOptions(Options):
    """The choices of the vote."""

    candidates: Candidates = option(
        "all",
        "`clusters`: the paper's, of the backbone's features alone; `all`: the objects of the other methods, too.",
        choices=get_args(Candidates),
    )
    small_large: bool = option(
        False, "Leave out candidates below 5 % of the image and those whose box covers over 95 % of it, too."
    )
    post: Post = post_option("none")


@dataclass(frozen=True)
class DetectorOptions(Options):
    """What becomes of the network's answers."""

    threshold: float = option(
        0.3, "Least score of an object that is reported; average precision is best measured at 0.05.", low=0, high=1
    )
    max_detections: int = option(30, "Most objects in one frame; the best stay.", low=1, high=1000)
    post: Post = post_option("none")


@dataclass(frozen=True)
class RcnnOptions(Options):
    """Which detections are reported."""

    threshold: float | None = option(
        None,
        "Least score, itself excluded.",
        kind=float,
        low=0,
        high=1,
        unset="that of the network's paper, 0 or 0.01",
    )
    nms_iou: float | None = option(
        None,
        "Greatest IoU of two detections of a class; the better one stays.",
        kind=float,
        low=0,
        high=1,
        unset="that of the network's paper, 0.5 or 0.4",
    )
    max_detections: int = option(100, "Most objects in one frame; the best stay.", low=1, high=1000)


@dataclass(frozen=True)
class SegmentationOptions(Options):
    """What the open-vocabulary methods have in common."""

    background: Background = option(
        "found",
        "What stays unlabelled: where FOUND (or CLIP-DINOiser's own head) sees no object (`found`), where the word "
        "background fits best (`prompt`), or nothing (`none`).",
        choices=get_args(Background),
    )
    per_region: bool = option(
        False,
        "Give each connected region outside the background one label, that of the greatest mean probability in it, "
        "instead of one to each pixel, and none to those below min_area.",
    )
    threshold: float = option(0.0, "Least confidence of a label.", low=0, high=1)
    min_area: float = option(0.001, "Smallest reported region as a fraction of the image.", low=0, high=1)


@dataclass(frozen=True)
class ClipDiyOptions(SegmentationOptions):
    """CLIP-DIY's choices."""

    placement: Placement = option(
        "centred",
        "Where a window's answer belongs: `centred` at its centre, `tiled` as the original has it, `nearest` "
        "tiled without interpolation.",
        choices=get_args(Placement),
    )


@dataclass(frozen=True)
class MaskClipOptions(SegmentationOptions):
    """MaskCLIP's choices."""


@dataclass(frozen=True)
class DinoiserOptions(SegmentationOptions):
    """CLIP-DINOiser's choices."""

    gamma: float = option(0.2, "Correlations of patches below this are cut to 0.", low=0, high=1)
    delta: float = option(
        0.99, "A background pixel stays unlabelled if no prompt is more probable than this.", low=0, high=1
    )
    correlations: Correlations = option(
        "auto",
        "`head` takes those of the trained convolutions, `dino` those of the backbone's values without any training, "
        "`auto` the head's if there is one.",
        choices=get_args(Correlations),
    )


PATCH_METHODS: Mapping[str, type[Options]] = {
    "lost": LostOptions,
    "tokencut": TokenCutOptions,
    "deep_spectral": DeepSpectralOptions,
    "maskcut": MaskCutOptions,
    "dino_seg": DinoSegOptions,
    "vote": VoteOptions,
}
"""Methods of patch objects by name, with their options."""

SEGMENTATION: Mapping[str, type[SegmentationOptions]] = {
    "clip_diy": ClipDiyOptions,
    "maskclip": MaskClipOptions,
    "clip_dinoiser": DinoiserOptions,
}
"""Open-vocabulary methods by name, with their options."""
