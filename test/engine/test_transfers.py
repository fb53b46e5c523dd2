"""Every computation finds its own image, in whatever order the device works; and if it did not, it would show."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from device_making import ANSWER, WAITS, StandIn
from waiting import PATIENCE_S

from objloc_ros.engine import transfers as module
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.engine.transfers import CpuTransfers, DeviceTransfers, UploadRing, transfers_of
from objloc_ros.errors import ParameterError
from objloc_ros.ops.geometry import plan

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(4, 6), (8, 6), (3, 5), (16, 9)]


def picture(seed: int, size: tuple[int, int] = (4, 6)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def send_many(device: StandIn, ring: UploadRing, frames: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Send batches and have the computing stream read each; what it read, once all is done."""
    read: list[np.ndarray] = [np.empty(0)] * len(frames)

    def keep(place: int, pixels: torch.Tensor) -> None:
        read[place] = pixels.numpy().copy()

    for place, images in enumerate(frames):
        with ring.send(images) as pixels:
            device.compute.call(lambda place=place, pixels=pixels: keep(place, pixels))
    device.finish()
    return read


def count_wrong(seeds: range, slots: int, without: str = "") -> int:
    """Count the batches that were read wrong, of several sizes, among many orders of work."""
    wrong = 0
    for seed in seeds:
        device = StandIn(seed, without)
        sizes = [SIZES[n] for n in np.random.default_rng(seed).integers(0, len(SIZES), 12)]
        frames = [[picture(2 * n, size), picture(2 * n + 1, size)] for n, size in enumerate(sizes)]
        read = send_many(device, UploadRing(device, slots), frames)
        wrong += sum(not np.array_equal(np.stack(images), pixels) for images, pixels in zip(frames, read, strict=True))
    return wrong


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_every_image_is_read_whole_and_by_its_own_reader(slots: int) -> None:
    assert count_wrong(range(60), slots) == 0


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("without", WAITS)
def test_a_wait_that_is_left_out_shows(without: str, slots: int) -> None:
    assert count_wrong(range(60), slots, without) > 0


def test_memory_that_grew_belongs_to_the_image_only_after_its_last_owner() -> None:
    for seed in range(60):
        device = StandIn(seed)
        frames = [[picture(n, (2 + n, 5))] for n in range(6)]  # each larger than the last: memory anew
        read = send_many(device, UploadRing(device, slots=1), frames)
        assert all(np.array_equal(np.stack(images), pixels) for images, pixels in zip(frames, read, strict=True))
        assert len(device.reserved) == len(frames)


def test_slots_are_bounded_and_grow_only_when_they_must() -> None:
    device = StandIn()
    ring = UploadRing(device, slots=2)
    for size in [(4, 6), (4, 6), (4, 5), (8, 6), (4, 6), (3, 3), (8, 6), (8, 5)]:
        with ring.send([picture(0, size)]):
            pass
    assert device.reserved == [72, 72, 144, 144]  # two slots in turn; both grew once, and what is smaller fits


def test_images_need_not_lie_in_a_row() -> None:
    device = StandIn()
    image = picture(0, (8, 12))[::2, ::-1]
    (read,) = send_many(device, UploadRing(device), [[image]])
    assert np.array_equal(read[0], image)


def test_who_finds_no_slot_waits_for_one() -> None:
    device = StandIn()
    ring = UploadRing(device, slots=1)
    entered = threading.Event()

    def send() -> None:
        with ring.send([picture(1)]):
            entered.set()

    with ring.send([picture(0)]):
        other = threading.Thread(target=send)
        other.start()
        assert not entered.wait(0.05)
    assert entered.wait(PATIENCE_S)
    other.join()


def test_a_slot_survives_lack_of_memory_and_readers_that_fail() -> None:
    device = StandIn()
    ring = UploadRing(device, slots=1)
    device.fails = 1
    with pytest.raises(torch.OutOfMemoryError), ring.send([picture(0)]):
        pass
    with pytest.raises(ArithmeticError), ring.send([picture(1)]):
        raise ArithmeticError
    device.fails = 1
    with pytest.raises(torch.OutOfMemoryError), ring.send([picture(2, (40, 40))]):
        pass
    (read,) = send_many(device, ring, [[picture(3)]])
    assert np.array_equal(read[0], picture(3))


def test_a_ring_has_a_slot() -> None:
    with pytest.raises(ParameterError, match="slots must be at least 1, got 0"):
        UploadRing(StandIn(), slots=0)


def test_cameras_share_a_ring() -> None:
    """Threads with images of several sizes, two slots: each gets the input that a CPU makes of its image."""
    device = StandIn(computes_at_once=True)
    shared, on_cpu = DeviceTransfers(device, slots=2), CpuTransfers()

    def run(camera: int) -> float:
        apart = 0.0
        for n in range(25):
            image = picture(100 * camera + n, (20 + camera, 30 + n % 3))
            geometry = plan(image.shape[:2], patch=8, short_side=None)
            made, wanted = (some.prepare([image], [geometry], MEAN, STD) for some in (shared, on_cpu))
            apart = max(apart, float((made - wanted).abs().max()))
        return apart

    with ThreadPoolExecutor(4) as threads:
        assert max(threads.map(run, range(4))) == 0


def test_an_input_made_before_its_image_is_there_shows() -> None:
    device = StandIn(3, WAITS[0], computes_at_once=True)
    geometry = plan((40, 40), patch=8, short_side=None)
    images = [picture(n, (40, 40)) for n in range(10)]
    broken = DeviceTransfers(device)
    pairs = [
        (broken.prepare([one], [geometry], MEAN, STD), CpuTransfers().prepare([one], [geometry], MEAN, STD))
        for one in images
    ]
    assert not all(torch.equal(made, wanted) for made, wanted in pairs)


@pytest.mark.parametrize("black", [False, True])
def test_a_batch_of_several_sizes_is_in_order(black: bool) -> None:
    device = StandIn(1, computes_at_once=True)
    images = [picture(n, size) for n, size in enumerate([(30, 33), (30, 33), (29, 34), (30, 33)])]
    geometries = [plan(image.shape[:2], patch=8, short_side=None) for image in images]
    made, wanted = (
        some.prepare(images, geometries, MEAN, STD, black=black) for some in (DeviceTransfers(device), CpuTransfers())
    )
    assert torch.equal(made, wanted)


def count_wrong_answers(without: str = "") -> int:
    wrong, values = 0, torch.arange(24.0).view(2, 3, 4)
    for seed in range(60):
        device = StandIn(seed, without)
        answer = torch.zeros(2, 3, 4)
        device.compute.call(lambda answer=answer: answer.copy_(values))
        wrong += not torch.equal(DeviceTransfers(device).fetch(answer), values)
    return wrong


def test_answers_are_read_after_their_copy() -> None:
    assert count_wrong_answers() == 0
    assert count_wrong_answers(without=ANSWER) > 0


def test_buffers_serve_callers_with_and_without_inference_mode() -> None:
    device = StandIn(computes_at_once=True)
    shared = DeviceTransfers(device, slots=1)
    geometry = plan((4, 6), patch=2, short_side=None)
    for mode in (True, False, True):
        with torch.inference_mode(mode):
            assert shared.prepare([picture(0)], [geometry], MEAN, STD).shape == (1, 3, 4, 6)


def test_a_device_has_one_ring_as_long_as_somebody_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CudaLink", lambda device: StandIn())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    held = transfers_of(torch.device("cuda"))
    assert transfers_of(torch.device("cuda:1")) is held
    assert transfers_of(torch.device("cuda:0")) is not held
    del held
    gc.collect()
    assert torch.device("cuda:1") not in module._BY_DEVICE
    assert isinstance(transfers_of(torch.device("cpu")), CpuTransfers)


@pytest.mark.parametrize("count", [1, 3])
def test_found_sees_the_same_through_a_device(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    images = [picture(n, (384, 512)) for n in range(count)]  # halved to 192 x 256: equal to the bit
    wanted = load_pipeline(("found",), device="cpu").run(images)
    shared = DeviceTransfers(StandIn(5, computes_at_once=True))
    for place in ("backbone", "transfers"):
        monkeypatch.setattr(f"objloc_ros.engine.{place}.transfers_of", lambda device: shared)
    for here, there in zip(wanted, load_pipeline(("found",), device="cpu").run(images), strict=True):
        assert np.array_equal(here["found"].saliency, there["found"].saliency)
        assert np.array_equal(here["found"].detections.boxes, there["found"].detections.boxes)
