"""Between the images going up and the answers coming down, FOUND does nothing that would have to wait for a device.

Networks and images are on PyTorch's device "meta", which has shapes and no values: whatever needs a value fails. What
crosses between it and the host is written down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from objloc_ros.backbones.weights import load_backbone
from objloc_ros.engine.backbone import Backbone
from objloc_ros.engine.heads.found import load_found
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.transfers import DeviceTransfers

META = torch.device("meta")
CPU = torch.device("cpu")


class Crossings(TorchDispatchMode):
    """Writes down what crosses between host and device, and what the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        came_from = {leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.dim()}
        if name == "_to_copy" and kwargs.get("device", META) != META and came_from == {META}:
            self.log.append("down")
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if name == "copy_" and came_from == {META, CPU}:
            self.log.append("up" if args[0].device == META else "down")
            return args[0] if args[0].device == META else args[0].zero_()
        if name == "_to_copy" and kwargs.get("device") == META and came_from == {CPU}:
            self.log.append("up")
        return func(*args, **kwargs)


class MetaLink:
    """A link to a device without values."""

    def __init__(self, log: list[str]) -> None:
        self.device, self.log = META, log
        self.copies = self

    def computing(self) -> MetaLink:
        return self

    def record_event(self) -> MetaLink:
        return self

    def wait_event(self, event: MetaLink) -> None:
        pass

    def synchronize(self) -> None:
        self.log.append("wait")

    def reserve_host(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.uint8)

    def reserve_device(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, device=META)

    def copy(self, target: Tensor, source: Tensor, stream: object) -> None:
        target.copy_(source)


@pytest.fixture
def crossings() -> Crossings:
    return Crossings()


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, crossings: Crossings) -> Pipeline:
    transfers = DeviceTransfers(MetaLink(crossings.log))
    for place in ("backbone", "transfers"):
        monkeypatch.setattr(f"objloc_ros.engine.{place}.transfers_of", lambda device: transfers)
    backbone = Backbone(
        load_backbone("tiny", device=META), name="tiny", device=CPU, short_side=192
    )  # autocast knows no "meta"
    return Pipeline(backbone, {"found": load_found("tiny", path=None, device=META)})


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("size", [(192, 256), (480, 640), (477, 635)])
def test_a_frame_goes_up_once_and_comes_down_once(
    pipeline: Pipeline, crossings: Crossings, size: tuple[int, int], images: int
) -> None:
    frames = [np.zeros((*size, 3), np.uint8) for _ in range(images)]
    with crossings:
        pipeline.run(frames)  # what depends on the size alone goes up with the first
        crossings.log.clear()
        results = pipeline.run(frames)
    assert crossings.log == ["up", "down", "wait"]
    assert all(result["found"].mask.shape == pipeline.geometry(size).resized for result in results)


@pytest.mark.parametrize(
    "wait",
    [
        lambda values: values.sum().item(),
        lambda values: values.nonzero(),
        lambda values: values[values > 0],
        lambda values: bool(values.any()),
        lambda values: values.cpu(),
        lambda values: values + torch.ones(4).to(META),
        lambda values: values.numpy(),
    ],
)
def test_what_would_wait_shows(crossings: Crossings, wait: Callable[[Tensor], object]) -> None:
    values = torch.ones(4, device=META)
    try:
        with crossings:
            wait(values)
    except (RuntimeError, NotImplementedError, TypeError):
        return
    assert crossings.log
