"""The values that travel between layers: frozen dataclasses, checked on construction."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError, ParameterError

if TYPE_CHECKING:
    from torch import Tensor

Image = npt.NDArray[np.uint8]
"""Pixels uint8: RGB [H, W, 3] unless said otherwise, or one channel [H, W]."""

Grid = tuple[int, int]
"""Rows and columns of the patch grid."""

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Features:
    """Last-block facets of a ViT for a batch of equally sized images, CLS and register tokens dropped.

    Args:
        keys: float32 [B, N, C], heads concatenated; N = h * w in row-major order.
        queries: float32 [B, N, C].
        values: float32 [B, N, C].
        cls_attention: float32 [B, heads, N], softmax over all tokens, columns of CLS and registers dropped.
        grid: Patch rows and columns (h, w).
        answers: What a head says that was exported with the backbone, each [B, ...], by name.
    """

    keys: Tensor
    queries: Tensor
    values: Tensor
    cls_attention: Tensor
    grid: Grid
    answers: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        h, w = self.grid
        batch, n, _ = self.keys.shape
        if n != h * w:
            raise InputError(f"features hold {n} patches but the grid {h}x{w} has {h * w}")
        for name in ("queries", "values"):
            if getattr(self, name).shape != self.keys.shape:
                raise InputError(f"{name} have shape {tuple(getattr(self, name).shape)}, keys {tuple(self.keys.shape)}")
        if self.cls_attention.shape[0] != batch or self.cls_attention.shape[2] != n:
            raise InputError(
                f"cls_attention has shape {tuple(self.cls_attention.shape)}, expected [{batch}, heads, {n}]"
            )

    def image(self, number: int) -> Features:
        """Return the features of one image, still a batch."""
        one = slice(number, number + 1)
        facets = (self.keys[one], self.queries[one], self.values[one], self.cls_attention[one])
        return Features(*facets, self.grid, {name: answer[one] for name, answer in self.answers.items()})


@dataclass(frozen=True)
class Detections:
    """Boxes of one image, in source-image pixels.

    Args:
        boxes: float32 [n, 4] as (x1, y1, x2, y2), 0-based, max side exclusive.
        scores: float32 [n] in [0, 1].
        labels: n class labels; "object" where a method is class-free.
        ids: n different track ids, each the same as in a video's earlier frames for the same object; None where nothing
            is tracked.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        n = len(self.labels)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,):
            raise InputError(f"boxes {self.boxes.shape} and scores {self.scores.shape} do not describe {n} labels")
        if n and not (np.isfinite(self.boxes).all() and (self.boxes[:, 2:] > self.boxes[:, :2]).all()):
            raise InputError(f"boxes must be finite with x2 > x1 and y2 > y1, got {self.boxes.tolist()}")
        if n and not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise InputError(f"scores must lie in [0, 1], got {self.scores.tolist()}")
        if self.ids is not None and not ("" not in self.ids and len(self.ids) == n == len(set(self.ids))):
            raise InputError(f"{n} detections need as many different, non-empty ids or None, got {list(self.ids)}")

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, places: Sequence[int]) -> Detections:
        """Return the detections at some places, in their order."""
        ids = None if self.ids is None else tuple(self.ids[i] for i in places)
        rows = np.asarray(places, np.intp)
        return Detections(self.boxes[rows], self.scores[rows], tuple(self.labels[i] for i in places), ids)

    @classmethod
    def class_free(cls, boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> Detections:
        """Detections of a method without classes: every label is "object"."""
        return cls(boxes, scores, (OBJECT,) * len(boxes))


OBJECT = "object"
"""What methods without classes call whatever they find."""

UNLABELLED = 255
"""Label of pixels that no prompt describes, as vision_msgs has it; never an object's."""

MAX_PROMPTS = 254
MAX_PROMPT_LENGTH = 500
"""In characters; the text towers read far less, and say so."""


BACKGROUND = "background"
"""The text of what is not asked for; the papers' first class."""

DEFAULT_TEMPLATES = ("a photo of a {}",)
"""CLIP-DIY's."""


@dataclass(frozen=True)
class LabelSet:
    """Prompts and the numbers that stand for them in a mask, checked on construction.

    Args:
        prompts: 1 to 254 texts, different even without regard to case and surplus spaces.
        ids: A number in 0..254 for each.
    """

    prompts: tuple[str, ...]
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        check_prompt_texts(self.prompts)
        if len(self.ids) != len(self.prompts) or len(set(self.ids)) != len(self.ids):
            raise ParameterError(f"{len(self.prompts)} prompts need as many different ids, got {list(self.ids)}")
        if not all(0 <= number < UNLABELLED for number in self.ids):
            raise ParameterError(f"ids must lie in 0..{UNLABELLED - 1}, got {list(self.ids)}")

    def __len__(self) -> int:
        return len(self.prompts)

    def names(self) -> dict[int, str]:
        """Return the prompt of each id."""
        return dict(zip(self.ids, self.prompts, strict=True))

    @classmethod
    def number(cls, prompts: Sequence[str], previous: LabelSet | None = None) -> LabelSet:
        """Number a new set: prompts that stay keep their ids, and ids that fall vacant rest for one set if possible.

        Raises:
            ParameterError: If the prompts break a constraint.
        """
        check_prompt_texts(prompts)
        known = {} if previous is None else dict(zip(previous.prompts, previous.ids, strict=True))
        kept = {known[prompt] for prompt in prompts if prompt in known}
        resting = set(known.values()) - kept
        free = sorted(set(range(UNLABELLED)) - kept)
        fresh = iter([number for number in free if number not in resting] + sorted(resting))
        return cls(tuple(prompts), tuple(known[p] if p in known else next(fresh) for p in prompts))


def split_prompts(text: str) -> list[str]:
    """Split `red car, traffic cone`; whoever takes the prompts checks them."""
    return [prompt.strip() for prompt in text.split(",")]


def check_prompt_texts(prompts: Sequence[str]) -> None:
    """Raise ParameterError unless these are 1 to 254 texts, different even without regard to case and spaces."""
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise ParameterError(f"prompts must be 1 to {MAX_PROMPTS} texts, got {len(prompts)}")
    seen: dict[str, str] = {}
    for prompt in prompts:
        _check_prompt(prompt)
        words = " ".join(prompt.lower().split())
        if words in seen:
            raise ParameterError(f"prompts must be different, got {seen[words]!r} and {prompt!r}")
        seen[words] = prompt


def _check_prompt(prompt: str) -> None:
    if not isinstance(prompt, str):
        raise ParameterError(f"prompts must be texts, got {prompt!r}")
    if len(prompt) > MAX_PROMPT_LENGTH:
        raise ParameterError(
            f"prompts must have at most {MAX_PROMPT_LENGTH} characters, got {len(prompt)}: {prompt[:40]!r}..."
        )
    if not prompt.strip():
        raise ParameterError(f"prompts must not be empty, got {prompt!r}")
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in prompt):
        raise ParameterError(f"prompts must not have control characters, got {prompt!r}")


CLASS_FREE = LabelSet((BACKGROUND, OBJECT), (0, 1))
"""The ids in the masks of methods without classes."""


def size_of(image: Image) -> Size:
    """Return height and width of an image [H, W, ...]."""
    return image.shape[0], image.shape[1]


def check_image(image: npt.NDArray[np.uint8]) -> None:
    """Raise InputError unless `image` is a non-empty uint8 [H, W, 3] array."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        shape = getattr(image, "shape", None)
        raise InputError(f"expected an RGB uint8 array [H, W, 3], got {getattr(image, 'dtype', type(image))} {shape}")
    if 0 in image.shape:
        raise InputError(f"expected a non-empty image, got {image.shape[1]}x{image.shape[0]} pixels")
