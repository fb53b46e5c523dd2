"""Tokens of the frozen backbone for a detector's training: computed anew for each epoch, or once and kept.

What can be done in any thread (`prepare`) is apart from what needs the backbone (`finish`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from objloc_ros.backbones.vit import ViT
from objloc_ros.errors import InputError
from objloc_ros.io.files import write_atomically
from objloc_ros.ops.geometry import plan
from objloc_ros.ops.inputs import to_input
from objloc_ros.training.detector_data import Item, PictureVariants, make_targets
from objloc_ros.training.detector_losses import ObjectTargets, assign_patches
from objloc_ros.types import size_of

MIN_STD = 1e-3
"""Channels that hardly vary are divided by this."""

_KEPT = ("boxes", "masks", "box_only", "categories", "sampled")


class Example(NamedTuple):
    """Tokens [C, h, w] of an image in a variant, float16 where they were kept, and what it shows."""

    tokens: Tensor
    targets: ObjectTargets


class Prepared(NamedTuple):
    """An input of the backbone, float32 [1, 3, Hp, Wp], its targets, and the name of its file."""

    pixels: Tensor
    targets: ObjectTargets
    name: str


class Examples(Protocol):
    """Examples by item."""

    def prepare(self, item: Item, /) -> Any:
        """Do what needs no backbone, in any thread; None if the image cannot be read."""

    def finish(self, prepared: Sequence[Any], /) -> list[Example]:
        """Return the examples of what was prepared, in order."""


class FreshExamples:
    """Examples whose tokens are computed when they are needed.

    Args:
        backbone: Frozen.
        variants: What to look at.
        bfloat16: Run the backbone in bfloat16.
    """

    def __init__(self, backbone: ViT, variants: PictureVariants, *, bfloat16: bool) -> None:
        self._backbone, self._variants, self._bfloat16 = backbone, variants, bfloat16

    def prepare(self, item: Item) -> Prepared | None:
        """Read, vary and normalise an image."""
        picture = self._variants.make(item.index, item.variant)
        if picture is None:
            return None
        geometry = plan(size_of(picture.image), patch=self._backbone.patch, short_side=item.short_side)
        pixels = to_input(picture.image, geometry, self._backbone.mean, self._backbone.std)
        return Prepared(pixels, make_targets(picture, geometry), self.name(item.index))

    def name(self, index: int) -> str:
        """Return the file of an image."""
        return str(self._variants.labels.images[index].file)

    def finish(self, prepared: Sequence[Prepared]) -> list[Example]:
        """Run the backbone, once per size.

        Raises:
            InputError: If a token is not finite.
        """
        tokens: dict[int, Tensor] = {}
        for shape in dict.fromkeys(one.pixels.shape for one in prepared):
            places = [place for place, one in enumerate(prepared) if one.pixels.shape == shape]
            tokens |= zip(places, self._encode([prepared[place].pixels for place in places]), strict=True)
        for place, one in enumerate(prepared):
            check_tokens(tokens[place], one.name)
        return [Example(tokens[place], one.targets) for place, one in enumerate(prepared)]

    @torch.no_grad()
    def _encode(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return keys [B, C, h, w] of B inputs [1, 3, Hp, Wp]."""
        device = next(self._backbone.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
            features = self._backbone(torch.cat(list(inputs)).to(device))
        keys: Tensor = features.keys.mT.unflatten(2, features.grid)
        return keys


@dataclass(frozen=True)
class TokenFolder:
    """Tokens and targets of all variants of an image per file.

    Args:
        path: The folder.
        identity: What the tokens depend on; files of another are as good as none.
    """

    path: Path
    identity: str

    def has(self, index: int) -> bool:
        """Whether an image's file is there, whole and of this identity."""
        try:
            with safe_open(self._file(index), framework="pt") as file:
                return (file.metadata() or {}).get("identity") == self.identity
        except (SafetensorError, OSError):
            return False

    def write(self, index: int, examples: Sequence[Example]) -> None:
        """Write the variants of an image.

        Raises:
            InputError: If the folder cannot be written.
        """
        tensors = {f"tokens.{variant}": one.tokens for variant, one in enumerate(examples)}
        for variant, one in enumerate(examples):
            tensors |= {f"{name}.{variant}": torch.from_numpy(getattr(one.targets, name).copy()) for name in _KEPT}
        with write_atomically(self._file(index)) as scratch:
            save_file(tensors, scratch, {"identity": self.identity})

    def read(self, index: int, variant: int) -> Example:
        """Read an image in a variant.

        Raises:
            InputError: If the file cannot be read, is of another identity, or holds tokens that are not finite.
        """
        path = self._file(index)
        if not self.has(index):
            raise InputError(f"{path} is no longer what this training has written: start it again")
        with safe_open(path, framework="pt") as file:
            tokens = file.get_tensor(f"tokens.{variant}")
            arrays = {name: file.get_tensor(f"{name}.{variant}").numpy() for name in _KEPT}
        check_tokens(tokens, str(path))
        owner = assign_patches(arrays["boxes"], arrays["masks"], arrays["box_only"])
        return Example(tokens, ObjectTargets(owner, **arrays))

    def _file(self, index: int) -> Path:
        return self.path / f"{index:07d}.safetensors"


class CachedExamples:
    """Examples whose tokens are computed once, as float16: in memory, or in a folder that later runs use, too.

    Args:
        fresh: Makes what is not there.
        variants: Number of variants per image.
        short_side: Of all images.
        folder: Where to keep them; None for memory.
    """

    def __init__(
        self, fresh: FreshExamples, *, variants: int, short_side: int | None, folder: TokenFolder | None
    ) -> None:
        self._fresh, self._variants, self._short_side, self._folder = fresh, variants, short_side, folder
        self._memory: dict[tuple[int, int], Example] = {}

    def fill(self, indices: Iterable[int], on_image: Callable[[], None] = lambda: None) -> None:
        """Make what is not there.

        Raises:
            InputError: If a token is not finite, or the folder cannot be written.
        """
        for index in indices:
            if self._folder is None or not self._folder.has(index):
                self._make(index)
            on_image()

    def _make(self, index: int) -> None:
        items = [Item(index, variant, self._short_side) for variant in range(self._variants)]
        prepared = [one for one in map(self._fresh.prepare, items) if one is not None]
        if len(prepared) < self._variants:
            return
        examples = [one._replace(tokens=one.tokens.half().cpu().contiguous()) for one in self._fresh.finish(prepared)]
        for one in examples:
            check_tokens(one.tokens, self._fresh.name(index))
        if self._folder is not None:
            self._folder.write(index, examples)
        else:
            self._memory |= {(index, variant): one for variant, one in enumerate(examples)}

    def prepare(self, item: Item) -> Example | None:
        """Look up an example; None if its image could not be read."""
        if self._folder is None:
            return self._memory.get((item.index, item.variant))
        return self._folder.read(item.index, item.variant) if self._folder.has(item.index) else None

    def finish(self, prepared: Sequence[Example]) -> list[Example]:
        """Return them as they are."""
        return list(prepared)


def check_tokens(tokens: Tensor, name: str) -> None:
    """Raise InputError, naming the file, if a token is not finite."""
    if not torch.isfinite(tokens).all():
        raise InputError(f"{name}: its tokens hold NaN or infinite values; if it is a cached file, delete it")


def hash_identity(parts: Mapping[str, Any]) -> str:
    """Return a hash of JSON values by name."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def measure_channels(examples: Iterable[Example]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the tokens' channels over one or more examples, float32 [C] each."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for tokens, _ in examples:
        flat = tokens.double().cpu().flatten(1)  # C N
        count += flat.shape[1]
        total, squares = total + flat.sum(1), squares + flat.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt()
    return mean.float(), std.clamp_min(MIN_STD).float()
