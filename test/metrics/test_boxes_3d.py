"""IoU in space, against volumes by hand and by counting random points."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from objloc_ros.metrics import Boxes3D, box_iou_3d


def box(center, size, rotation=None):
    turn = np.eye(3) if rotation is None else rotation.as_matrix()
    return Boxes3D(np.array([center], float), np.array([size], float), turn[None])


UNIT = box((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("other", "iou"),
    [
        (UNIT, 1.0),
        (box((0.5, 0, 0), (1, 1, 1)), 1 / 3),
        (box((0.5, 0.5, 0.5), (1, 1, 1)), 1 / 15),
        (box((1, 0, 0), (1, 1, 1)), 0.0),  # they touch
        (box((5, 0, 0), (1, 1, 1)), 0.0),
        (box((0, 0, 0), (0.5, 0.5, 0.5)), 1 / 8),  # one inside the other
        (box((0.25, 0, 0), (0.5, 1, 1)), 1 / 2),  # inside, and sharing faces
        (box((0, 0, 0), (1, 1, 1), Rotation.from_euler("z", 90, degrees=True)), 1.0),
        (box((0, 0, 0), (1, 1, 1), Rotation.from_euler("z", 45, degrees=True)), 0.70710678),  # (2v2-2) / (4-2v2)
        (box((0, 0, 0), (1, 1, 0)), 0.0),
    ],
)
def test_volumes_by_hand(other, iou):
    assert box_iou_3d(UNIT, other)[0, 0] == pytest.approx(iou, abs=1e-8)
    assert box_iou_3d(other, UNIT)[0, 0] == pytest.approx(iou, abs=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_boxes_turned_freely_agree_with_counted_points(seed):
    rng = np.random.default_rng(seed)
    one, other = (
        box(rng.normal(0, 0.15, 3), rng.uniform(0.5, 1.2, 3), Rotation.from_quat(rng.normal(size=4))) for _ in range(2)
    )
    points = rng.uniform(-1.5, 1.5, (400_000, 3))
    inside = [(np.abs((points - b.centers) @ b.rotations[0]) <= b.sizes / 2).all(1) for b in (one, other)]
    counted = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
    assert box_iou_3d(one, other)[0, 0] == pytest.approx(counted, abs=0.02)


def test_every_pair_is_compared():
    many = Boxes3D(np.array([(0, 0, 0), (0.5, 0, 0)], float), np.ones((2, 3)), np.stack([np.eye(3)] * 2))
    np.testing.assert_allclose(box_iou_3d(many, UNIT), [[1], [1 / 3]])
    none = Boxes3D(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3, 3)))
    assert box_iou_3d(none, many).shape == (0, 2)
    assert box_iou_3d(many, none).shape == (2, 0)


def test_two_boxes_without_volume():
    flat = box((0, 0, 0), (1, 1, 0))
    assert box_iou_3d(flat, flat)[0, 0] == 0
