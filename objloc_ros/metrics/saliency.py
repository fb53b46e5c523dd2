"""Metrics of saliency maps by the three protocols that published tables mix (methods differ by several points).

Each image gets a `SaliencyScore`, which goes through JSON unchanged, so that images can be scored anywhere and averaged
later with the same numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.metrics.base import Metric

TruthRule = Literal["positive", "full", "half"]

RULES: dict[TruthRule, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.bool_]]] = {
    "positive": lambda truth: truth > 0,
    "full": lambda truth: truth == 255,
    "half": lambda truth: truth >= 128,
}
"""Which true pixels are object: SelfMask and TokenCut, FOUND, Deep Spectral."""

THRESHOLDS = np.arange(255) / 255
"""Of both F protocols; a pixel is object where the map is greater."""

BETA2_SELFMASK = 0.3**2
"""SelfMask's and FOUND's evaluation squares the usual beta^2 of 0.3 once more."""

BETA2 = 0.3
EPS = 1e-7

MEANS = ("iou", "accuracy", "maxf_selfmask", "mae", "s_measure", "e_measure")
"""Figures that are plain means of those of the images."""


@dataclass(frozen=True)
class SaliencyScore:
    """What one image contributes.

    Args:
        iou: Of the map above 0.5 with the truth; 0 where both are empty.
        accuracy: Fraction of pixels that are right at 0.5.
        maxf_selfmask: The image's best F over the thresholds, beta^2 0.09.
        f_tokencut: F per threshold, 255 values, beta^2 0.3.
        f_standard: F per threshold of the usual saliency evaluation, 256 values, beta^2 0.3.
        mae: Mean absolute error of the min-max normalised map.
        s_measure: Structure measure (Fan et al., ICCV 2017); 0 where it is undefined (objects at the very border).
        e_measure: Enhanced alignment measure (Fan et al., IJCAI 2018), mean over thresholds.
        precision: For plots, to four digits: precision at the thresholds i / 51; 0 where no pixel is chosen.
        recall: The same of the recall.
    """

    iou: float
    accuracy: float
    maxf_selfmask: float
    f_tokencut: tuple[float, ...]
    f_standard: tuple[float, ...]
    mae: float
    s_measure: float
    e_measure: float
    precision: tuple[float, ...]
    recall: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers and lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> SaliencyScore:
        """Make the score that `to_json` has described."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**values)


def score(
    prediction: npt.NDArray[np.floating], truth: npt.NDArray[np.uint8], *, truth_rule: TruthRule = "positive"
) -> SaliencyScore:
    """Score one map.

    Args:
        prediction: [H, W] in [0, 1], soft or hard.
        truth: uint8 [H, W].
        truth_rule: A key of `RULES`.

    Raises:
        InputError: If the sizes differ or the map leaves [0, 1] (NaN included).
    """
    if prediction.shape != truth.shape or prediction.ndim != 2:
        raise InputError(f"the map has shape {prediction.shape}, the truth {truth.shape}: two equal [H, W]")
    if not ((prediction >= 0) & (prediction <= 1)).all():
        raise InputError(f"a map must lie in [0, 1], got {prediction.min()} to {prediction.max()}")
    wanted = RULES[truth_rule](truth)
    hard = prediction > 0.5
    inter, union = np.count_nonzero(hard & wanted), np.count_nonzero(hard | wanted)
    right, chosen = _counts(prediction.astype(np.float64), wanted)
    return SaliencyScore(
        iou=inter / (union + EPS),
        accuracy=float((hard == wanted).mean()),
        maxf_selfmask=float(_f_selfmask(right, chosen, np.count_nonzero(wanted)).max()),
        f_tokencut=tuple(_f_tokencut(right, chosen, np.count_nonzero(wanted)).tolist()),
        **_standard(prediction, wanted),
        precision=_thin_out(right / (chosen + EPS)),
        recall=_thin_out(right / (np.count_nonzero(wanted) + EPS)),
    )


class Saliency(Metric):
    """Averages over images; "maxf_tokencut" and "maxf" average each threshold's F first and take the best then."""

    def __init__(self) -> None:
        self.scores: list[SaliencyScore] = []

    def update(self, score: SaliencyScore) -> None:
        """Add an image."""
        self.scores.append(score)

    def compute(self) -> dict[str, float]:
        """Return all figures as fractions.

        Raises:
            InputError: If there is no image.
        """
        if not self.scores:
            raise InputError("there is no image to average over")
        figures = {name: float(np.mean([getattr(score, name) for score in self.scores])) for name in MEANS}
        for name, curve in (("maxf_tokencut", "f_tokencut"), ("maxf", "f_standard")):
            figures[name] = float(np.mean([getattr(score, curve) for score in self.scores], axis=0).max())
        return figures

    def reset(self) -> None:
        """Forget all images."""
        self.scores = []


def _counts(
    prediction: npt.NDArray[np.float64], wanted: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count the pixels above each threshold, int64 [255]: those that are object, and all."""
    above = np.searchsorted(THRESHOLDS, prediction.ravel(), side="left")  # how many thresholds a pixel exceeds
    both = [np.bincount(part, minlength=256) for part in (above[wanted.ravel()], above)]
    right, chosen = (np.cumsum(histogram[::-1])[::-1][1:] for histogram in both)
    return right, chosen


def _thin_out(curve: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Keep every fifth value of 255, to four digits."""
    return tuple(curve[::5].round(4).tolist())


def _f_selfmask(right: npt.NDArray[Any], chosen: npt.NDArray[Any], wanted: int) -> npt.NDArray[np.float64]:
    precision, recall = right / (chosen + EPS), right / (wanted + EPS)
    return (1 + BETA2_SELFMASK) * precision * recall / (BETA2_SELFMASK * precision + recall + EPS)


def _f_tokencut(right: npt.NDArray[Any], chosen: npt.NDArray[Any], wanted: int) -> npt.NDArray[np.float64]:
    """An empty choice has precision 1, an empty truth recall 1, and F is 0 where both are 0."""
    precision = np.where(chosen > 0, right / np.maximum(chosen, 1), 1.0)
    recall = right / wanted if wanted else np.ones(len(right))
    below = BETA2 * precision + recall
    return np.where(below > 0, (1 + BETA2) * precision * recall / np.where(below > 0, below, 1), 0.0)


def _standard(prediction: npt.NDArray[np.floating], wanted: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Compute PySODMetrics' figures of one image: it takes 8-bit maps and stretches them to the full range."""
    from py_sod_metrics import MAE, Emeasure, Fmeasure, Smeasure  # what only finds objects does not need it

    pixels, truth = np.rint(prediction * 255).astype(np.uint8), wanted.astype(np.uint8) * np.uint8(255)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a successor with the same numbers; of means over no pixels
        f, mae, s, e = Fmeasure(), MAE(), Smeasure(), Emeasure()
        for measure in (f, mae, s, e):
            measure.step(pixels, truth)
    return {
        "f_standard": tuple(np.asarray(f.changeable_fms[-1], np.float64).tolist()),
        "mae": float(mae.maes[-1]),
        "s_measure": float(np.nan_to_num(s.sms[-1])),
        "e_measure": float(np.mean(e.changeable_ems[-1])),
    }
