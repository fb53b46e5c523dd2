"""What a device makes of images is what OpenCV makes of them on a CPU, within one level of 255."""

from __future__ import annotations

from importlib.resources import files

import cv2
import numpy as np
import pytest
import torch

from objloc_ros.errors import InputError
from objloc_ros.ops import device_input as module
from objloc_ros.ops.device_input import DeviceInput, area_weights, halve
from objloc_ros.ops.geometry import Geometry, plan, steps
from objloc_ros.ops.inputs import to_input

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CPU = torch.device("cpu")
PHOTOGRAPHS = sorted(
    (file for file in files("objloc_ros.scenes").joinpath("photographs").iterdir() if file.name.endswith(".jpg")),
    key=lambda file: file.name,
)


def read(name: str, size: tuple[int, int]) -> np.ndarray:
    """Read a photograph at a size."""
    (file,) = (file for file in PHOTOGRAPHS if file.name == name)
    pixels = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    return cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_CUBIC)


def levels_apart(inputs: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Differences of normalised values, in levels of 255."""
    return (inputs - others).abs() * torch.tensor(STD)[:, None, None] * 255


@pytest.mark.parametrize("name", [file.name for file in PHOTOGRAPHS])
@pytest.mark.parametrize(
    ("size", "short"),
    [
        ((480, 640), None),  # native
        ((477, 635), None),  # native, padded
        ((480, 640), 240),  # halved
        ((480, 640), 192),  # by 2.5
        ((480, 640), 160),  # by 3
        ((720, 1280), 192),  # halved, then by 1.875
        ((960, 1280), 160),  # halved, then by 3
        ((1536, 2048), 192),  # halved three times
        ((479, 641), 100),  # odd sides
        ((480, 641), 470),  # hardly at all
    ],
)
def test_photographs_become_what_they_become_on_a_cpu(name: str, size: tuple[int, int], short: int | None) -> None:
    check(name, size, short, CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("size", "short"), [((477, 635), None), ((720, 1280), 192), ((1536, 2048), 192)])
def test_a_gpu_makes_the_same_of_photographs(size: tuple[int, int], short: int | None) -> None:
    check(PHOTOGRAPHS[0].name, size, short, torch.device("cuda"))


def check(name: str, size: tuple[int, int], short: int | None, device: torch.device) -> None:
    image = read(name, size)
    geometry = plan(size, patch=16, short_side=short)
    made = DeviceInput(device)(torch.from_numpy(image)[None].to(device), geometry, MEAN, STD).cpu()
    apart = levels_apart(made, to_input(image, geometry, MEAN, STD))
    assert apart.max() <= 1.001
    assert (apart > 0.5).double().mean() < 0.01  # they differ where a value lies on the edge of two levels


@pytest.mark.parametrize(("size", "short"), [((48, 64), None), ((480, 640), 240), ((960, 1280), 240), ((61, 83), None)])
@pytest.mark.parametrize("black", [False, True])
def test_bits_are_equal_where_no_area_is_fractional(size: tuple[int, int], short: int | None, black: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    geometry = plan(size, patch=14, short_side=short)
    made = DeviceInput(CPU)(torch.from_numpy(image)[None], geometry, MEAN, STD, black=black)
    assert torch.equal(made, to_input(image, geometry, MEAN, STD, black=black))


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_an_even_image_stays_even(value: int) -> None:
    image = torch.full((1, 601, 799, 3), value, dtype=torch.uint8)
    geometry = plan((601, 799), patch=8, short_side=97)
    made = DeviceInput(CPU)(image, geometry, MEAN, STD)
    assert torch.equal(made, to_input(image[0].numpy(), geometry, MEAN, STD))


def test_a_batch_is_its_images() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 90, 131, 3), dtype=np.uint8))
    geometry = plan((90, 131), patch=8, short_side=41)
    make = DeviceInput(CPU)
    alone = torch.cat([make(image[None], geometry, MEAN, STD) for image in images])
    assert levels_apart(make(images, geometry, MEAN, STD), alone).max() <= 1.001
    assert not torch.equal(alone[0], alone[1])


def test_steps_halve_and_end_at_the_size() -> None:
    assert steps(plan((1536, 2048), patch=8, short_side=192)) == [(768, 1024), (384, 512), (192, 256)]
    assert steps(plan((480, 640), patch=8, short_side=192)) == [(192, 256)]
    assert steps(plan((480, 640), patch=8, short_side=None)) == []


def test_halving_is_opencvs_to_the_bit() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 98, 3), dtype=np.uint8)
    expected = cv2.resize(image, (49, 32), interpolation=cv2.INTER_AREA)
    assert np.array_equal(halve(torch.from_numpy(image)[None])[0].numpy(), expected)


def test_areas_are_of_equal_weight_and_use_each_pixel_alike() -> None:
    weights = area_weights(7, 3)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights.sum(0), 3 / 7, rtol=1e-6)
    np.testing.assert_allclose(weights[0], [3 / 7, 3 / 7, 1 / 7, 0, 0, 0, 0], rtol=1e-6)


def test_constants_are_kept_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "area_weights", lambda *sides: made.append(sides) or area_weights(*sides))
    monkeypatch.setattr(module, "MAX_KEPT", 4)  # two of a network, two of a size
    make = DeviceInput(CPU)

    def see(side: int) -> None:
        image = np.full((side, side + 1, 3), 90, np.uint8)
        geometry = plan((side, side + 1), patch=8, short_side=16)
        apart = levels_apart(
            make(torch.from_numpy(image)[None], geometry, MEAN, STD), to_input(image, geometry, MEAN, STD)
        )
        assert apart.max() <= 1.001

    for side in (50, 50, 60, 60, 50):
        see(side)
    assert made == [(50, 16), (51, 16), (60, 16), (61, 16), (50, 16), (51, 16)]
    assert len(make._kept) <= 4


def test_images_of_another_size_are_refused() -> None:
    geometry = Geometry((5, 4), (5, 4), (8, 8), 8)
    with pytest.raises(InputError, match=r"expected images of \(5, 4\) rows x columns, got \(4, 5\)"):
        DeviceInput(CPU)(torch.zeros(1, 4, 5, 3, dtype=torch.uint8), geometry, MEAN, STD)
