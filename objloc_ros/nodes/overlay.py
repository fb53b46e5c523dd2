"""The picture for people: what was found, drawn over what the camera saw."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.types import Detections

TINT = (30, 220, 120)
BOX = (255, 200, 40)
RgbImage = npt.NDArray[np.uint8]


def draw(rgb: RgbImage, detections: Detections, mask: npt.NDArray[np.uint8] | None = None) -> RgbImage:
    """Tint the mask, outline it, and frame each detection with its label and score.

    Args:
        rgb: uint8 [H, W, 3]; left as it is.
        detections: Boxes in pixels of `rgb`.
        mask: uint8 [H, W], non-zero on objects.

    Returns:
        uint8 [H, W, 3].
    """
    picture = rgb.copy() if mask is None else _tinted(rgb, mask)
    thickness = max(1, round(min(rgb.shape[:2]) / 240))
    for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
        x1, y1, x2, y2 = (round(float(value)) for value in box)
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), BOX, thickness)
        _caption(picture, f"{label} {score:.2f}", (x1, y1), thickness)
    return picture


def _tinted(rgb: RgbImage, mask: npt.NDArray[np.uint8]) -> RgbImage:
    colour = np.empty_like(rgb)
    colour[:] = TINT
    picture = cv2.copyTo(cv2.addWeighted(rgb, 0.6, colour, 0.4, 0.0), mask, rgb.copy())
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(picture, contours, -1, TINT, 1), np.uint8)


def _caption(picture: RgbImage, text: str, corner: tuple[int, int], thickness: int) -> None:
    scale = 0.4 * thickness
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    x, y = corner[0], max(corner[1], height + below)
    cv2.rectangle(picture, (x, y - height - below), (x + width, y), BOX, cv2.FILLED)
    cv2.putText(picture, text, (x, y - below // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), thickness, cv2.LINE_AA)
