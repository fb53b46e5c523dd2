"""The `discovery` node's choice of networks: a method with its own is loaded alone, and not changed while it runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from objloc_ros.engine.config import PipelineConfig
from objloc_ros.errors import ParameterError
from objloc_ros.nodes.discovery import DiscoveryAdapter


def make_values(**changes: Any) -> dict[str, Any]:
    return {name: option.default for name, option in DiscoveryAdapter.parameters.items()} | changes


class FakePipeline:
    """Takes options and images."""

    device, precision = "cpu", "float32"

    def configure(self, method: str, **options: Any) -> None:
        pass

    def warm_up(self, size: tuple[int, int]) -> None:
        pass


class Loaded:
    """An adapter that has loaded what it was told to, and the configuration that it asked for."""

    def __init__(self, **changes: Any) -> None:
        self.configs: list[PipelineConfig] = []
        self.steps: list[str] = []
        self.adapter = DiscoveryAdapter(self.build)  # type: ignore[arg-type]
        log = SimpleNamespace(info=self.steps.append)
        host = SimpleNamespace(log=log, report_step=self.steps.append)
        self.adapter.load(make_values(**changes), host)  # type: ignore[arg-type]

    def build(self, config: PipelineConfig) -> FakePipeline:
        self.configs.append(config)
        return FakePipeline()


def test_a_method_with_its_own_network_is_loaded_alone() -> None:
    loaded = Loaded(method="rcnn", weights="/w/cutler.pth", short_side=480)
    (config,) = loaded.configs
    assert config.methods == ("rcnn",)
    assert not config.needs_backbone
    assert (str(config.weights), config.short_side) == ("/w/cutler.pth", 480)
    assert loaded.steps[0] == "loading cutler"
    assert loaded.adapter.describe(make_values(method="rcnn", weights="/w/cutler.pth"))["backbone"] == "cutler"


def test_the_methods_on_the_backbone_are_loaded_together_without_it() -> None:
    (config,) = Loaded(method="lost").configs
    assert {"lost", "maskcut", "tokencut"} <= set(config.methods)
    assert "rcnn" not in config.methods


@pytest.mark.parametrize(("before", "after"), [("lost", "rcnn"), ("rcnn", "lost")])
def test_another_network_needs_another_start(before: str, after: str) -> None:
    adapter = Loaded(method=before).adapter
    adapter.check(make_values(method=before, min_score=0.3))
    with pytest.raises(ParameterError, match=f"{after} needs another network than the loaded one: clean the node up"):
        adapter.check(make_values(method=after))
    DiscoveryAdapter().check(make_values(method=after))  # nothing is loaded


def test_a_method_on_the_backbone_is_changed_while_it_runs() -> None:
    Loaded(method="lost").adapter.check(make_values(method="maskcut"))


def test_a_network_for_a_method_without_one_is_refused() -> None:
    with pytest.raises(ParameterError, match="network is for methods that look at images themselves"):
        DiscoveryAdapter().check(make_values(method="lost", network="cutler_mrcnn"))


def test_only_who_reads_the_same_passes_has_the_same_key() -> None:
    adapter = DiscoveryAdapter()
    keys = {adapter.pass_key(make_values(method=method)) for method in ("lost", "maskcut", "rcnn")}
    assert len(keys) == 2
    precisions = ("auto", "float32", "bfloat16")
    assert len({adapter.pass_key(make_values(precision=precision)) for precision in precisions}) == 3
