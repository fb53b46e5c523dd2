"""The protocol of all metrics, as in torchmetrics: `update` adds an image, `compute` returns the figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class Metric(ABC):
    """A figure, or several, over many images.

    What `update` takes is what one image contributes. Where images are judged by several processes, that is plain
    JSON or turns into it without loss, so that the figures do not depend on who judged which image.
    """

    @abstractmethod
    def update(self, *args: Any, **kwargs: Any) -> None:
        """Add what one image contributes."""

    @abstractmethod
    def compute(self) -> Any:
        """Return the figures of all images so far; more images may follow."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all images."""


class VideoMetric(Metric):
    """A metric that compares consecutive frames."""

    @abstractmethod
    def start_video(self) -> None:
        """Tell that the next frame is the first of another video; the figures go on."""


class Mean(Metric):
    """Mean of one number per image."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def update(self, value: float) -> None:
        """Add the number of an image."""
        self.values.append(value)

    def compute(self) -> float:
        """Return the mean; 0 without images."""
        return float(np.mean(self.values)) if self.values else 0.0

    def reset(self) -> None:
        """Forget all numbers."""
        self.values = []
