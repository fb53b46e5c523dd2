"""Pipelines of several cameras around one backbone: who shares what, what is computed once, and what is let go."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from waiting import PATIENCE_S, wait_for

from objloc_ros.backbones.vit import build_vit
from objloc_ros.engine.batcher import DynamicBatcher, OutOfMemoryError
from objloc_ros.engine.loader import SharedLoader
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.engine.video_tracker import VideoTracker
from objloc_ros.errors import InputError, ParameterError
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
    monkeypatch.setattr("objloc_ros.engine.precision.has_bfloat16_units", lambda device: False)


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
        assert self.gate.wait(PATIENCE_S)


@pytest.fixture
def make(files):
    shared = SharedLoader(threads=1)

    def make(camera="front", methods=("found",), **options):
        options = {"short_side": 64, **files, **options}
        return load_pipeline(methods, device="cpu", loader=shared.make_client(camera), **options)

    return make


def picture(seed=0, size=(96, 160)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


class Frame:
    """Stands for an image, as a camera's frame does."""


def together(*tasks):
    """Run in a thread each; returns their results."""
    results = [None] * len(tasks)

    def run(number):
        results[number] = tasks[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_answers_are_those_of_a_pipeline_of_its_own(make, files):
    alone = load_pipeline(("found", "tokencut"), device="cpu", short_side=64, **files)
    shared = make(methods=("found", "tokencut"))
    for image, key in ((picture(1), Frame()), (picture(2), None)):
        expected, got = alone.run(image), shared.run(image, key=key)
        np.testing.assert_array_equal(got["found"].saliency, expected["found"].saliency)
        np.testing.assert_array_equal(got["tokencut"].instances, expected["tokencut"].instances)
        assert set(got.timings_ms) == set(expected.timings_ms)


def test_every_head_of_a_frame_shares_one_pass(make):
    found, discovery = make(), make(methods=("lost", "tokencut"))
    passes, image, frame = Passes(found), picture(1), Frame()
    alone = found.run(image)["found"].saliency
    found.run(image, key=frame)
    discovery.run(image, key=frame)
    VideoTracker(discovery, ("lost",))(image, key=frame)
    together(lambda: found.run(image, key=frame), lambda: discovery.run(image, key=frame))
    assert passes.batches == [1, 1]
    np.testing.assert_array_equal(found.run(image, key=frame)["found"].saliency, alone)


def test_heads_that_come_at_once_share_a_pass(make):
    found, discovery = make(), make(methods=("lost",))
    passes, image, frame = Passes(found), picture(1), Frame()
    together(lambda: found.run(image, key=frame), lambda: discovery.run(image, key=frame))
    assert passes.batches == [1]


@pytest.mark.parametrize("writeable", [True, False])
def test_the_key_alone_decides_who_shares(make, writeable):
    found, discovery = make(), make(methods=("lost",))
    image, copy, frame = picture(1), picture(1), Frame()
    image.flags.writeable = copy.flags.writeable = writeable
    passes = Passes(found)
    found.run(image, key=frame)
    discovery.run(copy, key=frame)
    assert passes.batches == [1]
    discovery.run(image, key=Frame())
    discovery.run(image)
    found.run(image)
    assert passes.batches == [1, 1, 1, 1]


def test_a_key_of_several_images_stands_for_them_in_their_order(make):
    found, discovery = make(), make(methods=("lost",))
    passes, images, frame = Passes(found), [picture(1), picture(2), picture(3, (64, 96))], Frame()
    alone = [found.run(image)["found"].saliency for image in images]
    before = len(passes.batches)
    discovery.run(images, key=frame)
    together = [result["found"].saliency for result in found.run(images, key=frame)]
    assert len(passes.batches) == before + 3
    for got, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_key_that_would_be_kept_for_ever_is_refused(make):
    with pytest.raises(ParameterError, match=r"a key must be hashable and weakly referenced, got 17"):
        make().run(picture(1), key=17)


def test_other_sizes_and_other_backbones_do_not_share(make, files, tmp_path):
    found, finer = make(), make(short_side=96)
    passes, image, frame = Passes(found), picture(1), Frame()
    found.run(image, key=frame)
    finer.run(image, key=frame)
    assert passes.batches == [1, 1]
    save_backbone(tmp_path / "other.safetensors", build_vit("tiny"))
    other = make(weights=tmp_path / "other.safetensors")
    assert other.backbone.vit is not found.backbone.vit
    others = Passes(other)
    other.run(image, key=frame)
    assert (passes.batches, others.batches) == ([1, 1], [1])


def open_after(monkeypatch, requests, gate):
    """Open a gate once so many passes have been asked for from now on."""
    submit, submitted = DynamicBatcher.submit, threading.Semaphore(0)

    def count(batcher, *request):
        answer = submit(batcher, *request)
        submitted.release()
        return answer

    def wait_and_open():
        assert all(submitted.acquire(timeout=PATIENCE_S) for _ in range(requests))
        gate.set()

    monkeypatch.setattr(DynamicBatcher, "submit", count)
    threading.Thread(target=wait_and_open).start()


def test_ready_frames_of_several_cameras_go_together_where_batches_pay(make, monkeypatch):
    monkeypatch.setattr("objloc_ros.engine.shared_backbone.batches_pay", lambda device: True)
    cameras = [make(f"camera{number}") for number in range(4)]
    alone = [cameras[0].run(picture(number))["found"].saliency for number in range(4)]
    passes = Passes(cameras[0])
    passes.gate.clear()
    first = threading.Thread(target=lambda: cameras[0].run(picture(9)))
    first.start()
    assert passes.entered.wait(PATIENCE_S)

    def camera(number):
        return lambda: cameras[number].run(picture(number))["found"].saliency

    open_after(monkeypatch, 4, passes.gate)
    results = together(*map(camera, range(4)))
    first.join()
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
    image, frame = picture(1), Frame()
    for pipeline in (found, discovery):
        with pytest.raises(OutOfMemoryError, match="single frame: CUDA out of memory"):
            pipeline.run(image, key=frame)
    full[0] = False
    assert found.run(picture(2))["found"] is not None


def test_a_pass_of_several_cameras_that_does_not_fit_is_halved_and_made_whole_again(make, monkeypatch):
    """PyTorch's own error in the middle of the fourth camera's batch; the answers are those of each camera alone."""
    monkeypatch.setattr("objloc_ros.engine.shared_backbone.batches_pay", lambda device: True)
    monkeypatch.setattr("objloc_ros.engine.batcher.MIN_GOOD_BATCHES", 6)
    cameras = [make(f"camera{number}") for number in range(4)]
    alone = [cameras[0].run(picture(number))["found"].saliency for number in range(4)]
    passes, room = Passes(cameras[0]), [2]

    def run_out(module, inputs, output):
        if len(inputs[0]) > room[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    cameras[0].backbone.vit.register_forward_hook(run_out)

    def ask_all():
        """All cameras while a pass is running; returns the images of the passes that they led to."""
        passes.batches.clear()
        passes.entered.clear()
        passes.gate.clear()
        first = threading.Thread(target=lambda: cameras[0].run(picture(9)))
        first.start()
        assert passes.entered.wait(PATIENCE_S)
        with monkeypatch.context() as patch:
            open_after(patch, 4, passes.gate)
            results = together(*(lambda n=n: cameras[n].run(picture(n))["found"].saliency for n in range(4)))
        first.join()
        for got, expected in zip(results, alone, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-4)
        return passes.batches[1:]

    assert ask_all() == [4, 2, 2]
    room[0] = 4
    assert ask_all() == [2, 2]
    for _ in range(2):
        cameras[0].run(picture(9))
    assert ask_all() == [4]


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
    wait_for(lambda: not any(thread.name == "objloc-cpu" for thread in threading.enumerate()), "the batcher's end")


def test_features_go_with_the_key(make):
    found, frame = make(), Frame()
    found.run(picture(1), key=frame)
    cache = found.backbone._cache
    assert len(cache) == 1
    del frame
    gc.collect()
    assert len(cache) == 0


def test_one_image_has_all_processors_and_several_have_one_each(files, monkeypatch):
    loader, seen, entered, gate = SharedLoader(threads=2), [], threading.Event(), threading.Event()
    cameras = [load_pipeline(device="cpu", short_side=64, loader=loader.make_client(n), **files) for n in range(4)]
    alone = [cameras[0].run(picture(number))["found"].saliency for number in range(3)]
    cameras[3].run(picture(8))

    def note(module, inputs, output):
        seen.append((len(inputs[0]), torch.get_num_threads()))
        entered.set()
        assert gate.wait(PATIENCE_S)

    cameras[0].backbone.vit.register_forward_hook(note)

    def caller(number):
        return lambda: (cameras[number].run(picture(number))["found"].saliency, torch.get_num_threads())

    first = threading.Thread(target=lambda: cameras[3].run(picture(9)))
    first.start()
    assert entered.wait(PATIENCE_S)
    open_after(monkeypatch, 3, gate)
    results = together(*(caller(number) for number in range(3)))
    first.join()
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
