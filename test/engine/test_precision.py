"""Precision: what a pass computes in, that only passes are reduced, and what is refused."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import objloc_ros
from objloc_ros.backbones.reduced import exactly, reduced
from objloc_ros.backbones.vit import ViT, ViTSpec, build_transformer
from objloc_ros.engine.backbone import Backbone
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.loader import SharedLoader
from objloc_ros.engine.pipeline import build_pipeline
from objloc_ros.engine.precision import choose_dtype
from objloc_ros.errors import ParameterError

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
SPEC = ViTSpec(patch=8, embed_dim=48, depth=3, n_heads=3, base=64)


@pytest.mark.parametrize(
    ("capability", "chosen"),
    [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16), ((12, 0), torch.bfloat16)],
)
def test_auto_follows_the_gpu(monkeypatch, capability, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    for pays in (False, True):
        assert choose_dtype("auto", GPU, pays_on_cpu=pays) == chosen
        assert choose_dtype("float32", GPU, pays_on_cpu=pays) == torch.float32
        assert choose_dtype("float16", GPU, pays_on_cpu=pays) == torch.float16


@pytest.mark.parametrize("units", [False, True])
def test_auto_on_a_cpu_needs_units_and_a_network_that_gains(monkeypatch, units):
    monkeypatch.setattr("objloc_ros.engine.precision.has_bfloat16_units", lambda device: units)
    assert choose_dtype("auto", CPU, pays_on_cpu=False) == torch.float32
    assert choose_dtype("auto", CPU, pays_on_cpu=True) == (torch.bfloat16 if units else torch.float32)
    assert choose_dtype("bfloat16", CPU, pays_on_cpu=False) == torch.bfloat16


def test_a_cpu_has_no_float16():
    with pytest.raises(
        ParameterError, match="float16 is for GPUs, and this is a CPU: choose bfloat16, float32 or auto"
    ):
        objloc_ros.load_pipeline(device="cpu", precision="float16")


def test_an_unknown_precision_is_refused():
    message = "precision must be one of auto, float32, bfloat16, float16; got 'half'"
    with pytest.raises(ParameterError, match=message):
        objloc_ros.load_pipeline(device="cpu", precision="half")


@pytest.mark.parametrize("method", ["selfmask", "rcnn"])
def test_networks_that_compute_in_float32_refuse_anything_else(method):
    for precision in ("auto", "float32"):
        PipelineConfig(methods=(method,), precision=precision)
    with pytest.raises(ParameterError, match=f"precision bfloat16 is for backbones and CLIP; {method} computes in fl"):
        PipelineConfig(methods=(method,), precision="bfloat16")


@pytest.mark.parametrize("units", [False, True])
def test_a_reduced_pass_is_near_and_only_the_pass_is_reduced(monkeypatch, units):
    """By autocast and by rounding alike: features are float32, and the CLS attention is that of the reduced keys."""
    monkeypatch.setattr("objloc_ros.backbones.reduced.has_bfloat16_units", lambda device: units)
    torch.manual_seed(0)
    vit, images = ViT(build_transformer(SPEC), SPEC).eval().requires_grad_(False), torch.randn(2, 3, 40, 48)
    exact, found = (
        Backbone(vit, name="small", device=CPU, short_side=None, precision=precision).forward(images)
        for precision in ("float32", "bfloat16")
    )
    for name in ("keys", "queries", "values", "cls_attention"):
        wanted, got = getattr(exact, name), getattr(found, name)
        assert got.dtype == torch.float32
        assert not torch.equal(got, wanted)
        torch.testing.assert_close(got, wanted, atol=0.05, rtol=0.05)
    # The facets are sums of bfloat16 products, rounded: nothing in them needs more than bfloat16's eight bits ...
    assert torch.equal(found.keys, found.keys.bfloat16().float())
    # ... and what is computed of them is not rounded.
    assert not torch.equal(found.cls_attention, found.cls_attention.bfloat16().float())


def test_rounded_products_are_those_of_units(monkeypatch):
    """A product of bfloat16 numbers, in float64, rounded once: rounding and autocast come within a unit."""
    torch.manual_seed(0)
    x, weight = torch.randn(40, 64), torch.randn(32, 64)
    wanted = (x.bfloat16().double() @ weight.bfloat16().double().T).float()
    for units in (False, True):
        monkeypatch.setattr("objloc_ros.backbones.reduced.has_bfloat16_units", lambda device, units=units: units)
        with torch.inference_mode(), reduced(CPU, torch.bfloat16):
            product = torch.nn.functional.linear(x, weight)
            with exactly(CPU):
                exact = torch.nn.functional.linear(x, weight)
            after = torch.nn.functional.linear(x, weight)
        torch.testing.assert_close(product.float(), wanted, atol=1e-2, rtol=2**-7)
        assert torch.equal(product.float(), product.bfloat16().float())
        torch.testing.assert_close(exact, x @ weight.T)
        assert torch.equal(after, product)


def test_rounding_is_of_the_thread_that_asked(monkeypatch):
    monkeypatch.setattr("objloc_ros.backbones.reduced.has_bfloat16_units", lambda device: False)
    x = torch.randn(8, 8)
    with ThreadPoolExecutor(1) as thread, reduced(CPU, torch.bfloat16):
        elsewhere = thread.submit(lambda: x @ x).result()
        here = x @ x
    assert torch.equal(elsewhere, x @ x)
    assert not torch.equal(here, elsewhere)


def test_precision_is_said(monkeypatch):
    assert objloc_ros.load_pipeline(device="cpu").precision == "float32"  # as ever: ONNX Runtime's graph
    assert objloc_ros.load_pipeline(device="cpu", precision="bfloat16").precision == "bfloat16"
    monkeypatch.setattr("objloc_ros.engine.precision.has_bfloat16_units", lambda device: True)
    assert objloc_ros.load_pipeline(("maskclip",), device="cpu").precision == "backbone float32, clip bfloat16"
    both = objloc_ros.load_pipeline(("maskclip",), device="cpu", precision="float32")
    assert both.precision == "float32"
    assert PipelineConfig(methods=("found",), precision="bfloat16").about("found")["precision"] == "bfloat16"


def test_tf32_is_off_once_a_pipeline_is_built():
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    objloc_ros.load_pipeline(device="cpu")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


class Key:
    """What stands for a frame."""


def test_cameras_of_different_precisions_do_not_share_passes():
    shared, image, key = SharedLoader(threads=1), np.random.RandomState(0).randint(0, 255, (48, 64, 3), np.uint8), Key()
    found = {}
    for precision in ("float32", "bfloat16"):
        config = PipelineConfig(methods=("found",), device="cpu", precision=precision)
        pipeline = build_pipeline(config, shared.make_client(precision))
        found[precision] = pipeline.run(image, key=key)["found"].logits
    assert not np.array_equal(found["float32"], found["bfloat16"])


def test_a_gpu_that_is_not_there_is_named():
    with pytest.raises(ParameterError, match=r"device 'cuda:7' is not there: \d CUDA devices found"):
        objloc_ros.load_pipeline(device="cuda:7")
