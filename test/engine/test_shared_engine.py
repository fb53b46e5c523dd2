"""Pipelines of several cameras around one backbone: who shares what, what is computed once, and what is let go."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch

from objloc_ros.backbones.vit import build_vit
from objloc_ros.engine.batcher import OutOfMemoryError
from objloc_ros.engine.loader import SharedLoader
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.errors import InputError
from objloc_ros.training.found_head import save_head
from objloc_ros.training.tiny import save_backbone


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_backbone(folder / "vit.safetensors", build_vit("tiny"))
    save_head(folder / "head.safetensors", torch.randn(1, 160, 1, 1), torch.zeros(1))
    return {"weights": folder / "vit.safetensors", "head_weights": folder / "head.safetensors"}


@pytest.fixture(autouse=True)
def single_precision(monkeypatch):
    monkeypatch.setattr("objloc_ros.engine.backbone.has_bfloat16_units", lambda device: False)


@pytest.fixture(autouse=True)
def threads():
    """Callers of a shared engine compute on one thread from then on: not for the rest of the tests."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class Passes:
    """Counts the images of every pass; the first one waits for `gate` if it is closed."""

    def __init__(self, pipeline):
        self.batches, self.gate, self.entered = [], threading.Event(), threading.Event()
        self.gate.set()
        pipeline.backbone.vit.register_forward_hook(self.note)

    def note(self, module, inputs, output):
        self.batches.append(len(inputs[0]))
        self.entered.set()
        self.gate.wait(10)


@pytest.fixture
def make(files):
    shared = SharedLoader(threads=1)

    def make(camera="front", methods=("found",), **options):
        options = {"short_side": 64, **files, **options}
        return load_pipeline(methods, device="cpu", loader=shared.client(camera), **options)

    return make


def picture(seed=0, size=(96, 160), *, fixed=True):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    pixels.flags.writeable = not fixed
    return pixels


def together(*tasks):
    """Run in a thread each; returns their results."""
    results = [None] * len(tasks)

    def run(number):
        results[number] = tasks[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results


def test_answers_are_those_of_a_pipeline_of_its_own(make, files):
    alone = load_pipeline(("found", "tokencut"), device="cpu", short_side=64, **files)
    shared = make(methods=("found", "tokencut"))
    for image in (picture(1), picture(2, fixed=False)):
        expected, got = alone.run(image), shared.run(image)
        np.testing.assert_array_equal(got["found"].saliency, expected["found"].saliency)
        np.testing.assert_array_equal(got["tokencut"].instances, expected["tokencut"].instances)
        assert set(got.timings_ms) == set(expected.timings_ms)


def test_every_head_of_a_frame_shares_one_pass(make):
    found, discovery = make(), make(methods=("lost", "tokencut"))
    passes, image = Passes(found), picture(1)
    found.run(image)
    discovery.run(image)
    assert passes.batches == [1]
    together(lambda: found.run(image), lambda: discovery.run(image))
    assert passes.batches == [1]


def test_heads_that_come_at_once_share_a_pass(make):
    found, discovery = make(), make(methods=("lost",))
    passes, image = Passes(found), picture(1)
    together(lambda: found.run(image), lambda: discovery.run(image))
    assert passes.batches == [1]


def test_other_sizes_and_other_backbones_do_not_share(make, files, tmp_path):
    found, finer = make(), make(short_side=96)
    passes, image = Passes(found), picture(1)
    found.run(image)
    finer.run(image)
    assert passes.batches == [1, 1]
    save_backbone(tmp_path / "other.safetensors", build_vit("tiny"))
    other = make(weights=tmp_path / "other.safetensors")
    assert other.backbone.vit is not found.backbone.vit
    others = Passes(other)
    other.run(image)
    assert (passes.batches, others.batches) == ([1, 1], [1])


def test_an_image_that_can_change_is_seen_anew(make):
    found, image = make(), picture(1, fixed=False)
    before = found.run(image)["found"].saliency
    image[:] = picture(2)
    assert np.abs(found.run(image)["found"].saliency - before).max() > 0.01


def test_ready_frames_of_several_cameras_go_together_where_batches_pay(make, monkeypatch):
    monkeypatch.setattr("objloc_ros.engine.shared_backbone.batches_pay", lambda device: True)
    cameras = [make(f"camera{number}") for number in range(4)]
    alone = [cameras[0].run(picture(number))["found"].saliency for number in range(4)]
    passes = Passes(cameras[0])
    passes.gate.clear()
    first = threading.Thread(target=lambda: cameras[0].run(picture(9)))
    first.start()
    passes.entered.wait(10)

    def camera(number):
        return lambda: cameras[number].run(picture(number))["found"].saliency

    opener = threading.Timer(0.5, passes.gate.set)
    opener.start()
    results = together(*map(camera, range(4)))
    first.join(10)
    assert passes.batches == [1, 4]
    for got, expected in zip(results, alone, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_a_bad_image_hurts_nobody_else(make):
    good, bad = make("good"), make("bad")

    def refused():
        with pytest.raises(InputError, match="RGB uint8"):
            bad.run(np.zeros((4, 4), np.uint8))
        return True

    results = together(lambda: good.run(picture(1)), refused)
    assert results[0]["found"] is not None
    assert results[1]


def test_out_of_memory_is_told_to_every_head_and_passes(make, monkeypatch):
    found, discovery = make(), make(methods=("lost",))
    vit = found.backbone.vit
    full = [True]

    def forward(module, inputs):
        if full[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    vit.register_forward_pre_hook(forward)
    image = picture(1)
    for pipeline in (found, discovery):
        with pytest.raises(OutOfMemoryError, match="single frame: CUDA out of memory"):
            pipeline.run(image)
    full[0] = False
    assert found.run(picture(2))["found"] is not None


def test_networks_are_loaded_once_and_go_with_the_last_pipeline(make):
    front, rear = make("front"), make("rear")
    assert front.backbone.vit is rear.backbone.vit
    assert front._heads["found"] is rear._heads["found"]
    vit, head = weakref.ref(front.backbone.vit), weakref.ref(front._heads["found"])
    del front
    gc.collect()
    assert rear.run(picture(1))["found"] is not None
    del rear
    gc.collect()
    assert vit() is None
    assert head() is None
    assert not any(thread.name == "objloc-cpu" and thread.is_alive() for thread in threading.enumerate())


def test_features_go_with_the_image(make):
    found, image = make(), picture(1)
    found.run(image)
    memory = found.backbone._memory
    assert len(memory) == 1
    del image
    gc.collect()
    assert len(memory) == 0


def test_one_image_has_all_processors_and_several_have_one_each(files):
    loader, seen, entered, gate = SharedLoader(threads=2), [], threading.Event(), threading.Event()
    cameras = [load_pipeline(device="cpu", short_side=64, loader=loader.client(n), **files) for n in range(4)]
    alone = [cameras[0].run(picture(number))["found"].saliency for number in range(3)]
    cameras[3].run(picture(8))

    def note(module, inputs, output):
        seen.append((len(inputs[0]), torch.get_num_threads()))
        entered.set()
        gate.wait(10)

    cameras[0].backbone.vit.register_forward_hook(note)

    def caller(number):
        return lambda: (cameras[number].run(picture(number))["found"].saliency, torch.get_num_threads())

    first = threading.Thread(target=lambda: cameras[3].run(picture(9)))
    first.start()
    entered.wait(10)
    threading.Timer(0.5, gate.set).start()
    results = together(*(caller(number) for number in range(3)))
    first.join(10)
    assert seen[:3] == [(1, 2), (1, 1), (1, 1)]
    for (saliency, threads), expected in zip(results, alone, strict=True):
        assert threads == 1
        np.testing.assert_allclose(saliency, expected, atol=1e-4)


def test_options_are_each_pipelines_own(make):
    front, rear = make("front"), make("rear")
    front.configure("found", threshold=0.9)
    assert rear.options["found"].threshold == 0.5


def test_prompted_pipelines_share_the_towers(make):
    front, rear = (make(name, methods=("maskclip",)) for name in ("front", "rear"))
    assert front._heads["maskclip"]._clip is rear._heads["maskclip"]._clip
    front.set_prompts(["red circle"])
    rear.set_prompts(["blue square", "green ring"])
    assert front.labels.prompts == ("red circle",)
    assert len(rear.run(picture(1))["maskclip"].labels) == 2
