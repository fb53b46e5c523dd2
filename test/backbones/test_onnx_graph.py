"""The shipped graph is the module's own pass, with whatever weights the module has."""

import pytest
import torch

from objloc_ros.backbones import onnx_graph
from objloc_ros.backbones.onnx_file import FACETS
from objloc_ros.backbones.onnx_graph import GRAPHS, GraphViT, with_graph
from objloc_ros.backbones.vit import build_vit
from objloc_ros.errors import InputError, WeightsError


def make(name="tiny", seed=0):
    torch.manual_seed(seed)
    return build_vit(name).requires_grad_(False).eval()


@pytest.mark.parametrize("name", GRAPHS)
@torch.inference_mode()
def test_graphs_compute_what_their_modules_do(name):
    for seed, shape in ((0, (1, 3, 96, 128)), (1, (2, 3, 40, 24))):
        vit = make(name, seed)
        images = torch.randn(shape)
        wanted, found = vit(images), with_graph(vit, name)(images)
        assert found.grid == wanted.grid
        for facet in FACETS:
            difference = (getattr(found, facet) - getattr(wanted, facet)).abs().max() / getattr(
                wanted, facet
            ).abs().max()
            assert difference < 1e-4, facet


@torch.inference_mode()
def test_each_number_of_threads_has_a_session():
    vit, images = with_graph(make(), "tiny"), torch.randn(1, 3, 48, 64)
    before, keys = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            keys.append(vit(images).keys)
    finally:
        torch.set_num_threads(before)
    assert sorted(vit._sessions) == [1, 2]
    assert torch.equal(keys[0], keys[2])
    torch.testing.assert_close(keys[0], keys[1])


def test_gradients_are_the_modules():
    vit = with_graph(make(), "tiny").requires_grad_(True)
    vit(torch.randn(1, 3, 32, 32)).keys.sum().backward()
    assert vit.vit.blocks[0].attn.qkv.weight.grad is not None
    assert not vit._sessions


def test_only_the_plain_architecture_has_a_graph(monkeypatch):
    vit = make()
    graph = with_graph(vit, "tiny")
    assert isinstance(graph, GraphViT)
    assert with_graph(graph, "tiny") is graph
    assert with_graph(vit, "other") is vit
    monkeypatch.setattr(onnx_graph, "find_spec", lambda name: None)
    assert with_graph(vit, "tiny") is vit  # a machine without ONNX Runtime


@torch.inference_mode()
def test_sides_are_checked():
    with pytest.raises(InputError, match="multiples"):
        with_graph(make(), "tiny")(torch.zeros(1, 3, 20, 24))


@torch.inference_mode()
def test_a_graph_of_another_architecture_names_the_cure():
    vit = make()
    vit.vit.patch_embed.up = torch.nn.Conv2d(192, 80, 1)
    with pytest.raises(WeightsError, match=r"tiny_graph.onnx does not fit .* python -m objloc_ros.backbones"):
        with_graph(vit, "tiny")(torch.zeros(1, 3, 32, 32))


def test_a_graph_has_no_weights():
    onnx = pytest.importorskip("onnx")
    for file in GRAPHS.values():
        graph = onnx.load(str(file), load_external_data=False).graph
        inside = [value for value in graph.initializer if value.data_location != onnx.TensorProto.EXTERNAL]
        assert max(len(value.raw_data) for value in inside) < 1000
