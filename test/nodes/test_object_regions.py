"""Which pixels of a depth image are an object's: boxes, instances and classes, at the depth image's size."""

import numpy as np
import pytest

pytest.importorskip("vision_msgs")
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from objloc_ros.nodes.conversions import ImageMessageError, mask_to_image
from objloc_ros.nodes.messages import detections_to_msg, labels_to_msg
from objloc_ros.nodes.object_regions import MAX_REGIONS, check_frame_ids, find_regions
from objloc_ros.nodes.pairing import Located
from objloc_ros.types import CLASS_FREE, Detections, LabelSet

SIZE = (12, 16)
HEADER = Header(frame_id="camera")


def detections(*boxes, labels=None, ids=None, scores=None):
    n = len(boxes)
    found = Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores or [0.5] * n, np.float32),
        labels or ("object",) * n,
        ids,
    )
    return detections_to_msg(found, HEADER)


def regions(*, boxes=None, mask=None, names=None, image_size=SIZE, size=SIZE, min_pixels=1):
    results = {} if boxes is None else {"detections": boxes}
    if mask is not None:
        results["mask"] = mask_to_image(mask, HEADER)
    labels = None if names is None else labels_to_msg(names, HEADER, 0.5)
    frame = Located(results, Image(header=HEADER), CameraInfo(header=HEADER), labels)
    return list(find_regions(frame, image_size, size, min_pixels))


def ids(dtype=np.uint8, size=SIZE, **places):
    mask = np.zeros(size, dtype)
    for number, (rows, columns) in places.items():
        mask[slice(*rows), slice(*columns)] = int(number.removeprefix("id"))
    return mask


def test_boxes_alone_are_filled():
    (region,) = regions(boxes=detections((2, 3, 5, 10), ids=("7",), scores=[0.25]))
    expected = np.zeros(SIZE, np.bool_)
    expected[3:10, 2:5] = True
    np.testing.assert_array_equal(region.pixels, expected)
    assert (region.id, region.label, region.score) == ("7", "object", 0.25)


def test_boxes_are_of_the_cameras_image_and_of_the_masks_where_there_is_one():
    (region,) = regions(boxes=detections((4, 6, 10, 20)), image_size=(24, 32))
    assert np.argwhere(region.pixels).min(axis=0).tolist() == [3, 2]
    assert np.argwhere(region.pixels).max(axis=0).tolist() == [9, 4]
    mask = ids(size=(48, 64), id1=((12, 40), (8, 20)))
    (region,) = regions(boxes=detections((8, 12, 20, 40)), mask=mask, names=CLASS_FREE, image_size=(24, 32))
    assert np.argwhere(region.pixels).min(axis=0).tolist() == [3, 2]
    assert np.argwhere(region.pixels).max(axis=0).tolist() == [9, 4]


@pytest.mark.parametrize("box", [(-5, -5, 3, 4), (14, 10, 40, 40), (30, 30, 40, 40)])
def test_boxes_over_the_edge_are_cut(box):
    (region,) = regions(boxes=detections(box))
    expected = np.zeros(SIZE, np.bool_)
    expected[max(box[1], 0) : box[3], max(box[0], 0) : box[2]] = True
    np.testing.assert_array_equal(region.pixels, expected)


def test_a_box_of_no_numbers_covers_nothing():
    boxes = detections((2, 3, 5, 10))
    boxes.detections[0].bbox.size_x = float("nan")
    (region,) = regions(boxes=boxes)
    assert not region.pixels.any()


def test_a_detection_without_a_class_has_none():
    boxes = detections((2, 3, 5, 10))
    boxes.detections[0].results = []
    (region,) = regions(boxes=boxes)
    assert (region.label, region.score) == ("", 0.0)


def test_instances_are_in_the_order_of_the_detections():
    mask = ids(np.uint16, id1=((0, 4), (0, 4)), id2=((6, 9), (6, 12)))
    boxes = detections((0, 0, 4, 4), (6, 6, 12, 9))
    for number, region in enumerate(regions(boxes=boxes, mask=mask)):
        np.testing.assert_array_equal(region.pixels, mask == number + 1)


def test_of_a_mask_of_classes_those_pixels_count_that_are_in_the_box_and_of_the_class():
    mask = ids(id0=((0, 12), (0, 16)), id3=((2, 8), (2, 8)), id4=((4, 6), (4, 12)), id255=((10, 12), (0, 16)))
    names = LabelSet(("car", "cup", "dog"), (0, 3, 4))
    boxes = detections((0, 0, 10, 12), (0, 0, 10, 12), labels=("cup", "car"))
    cup, car = regions(boxes=boxes, mask=mask, names=names)
    inside = np.zeros(SIZE, np.bool_)
    inside[0:12, 0:10] = True
    np.testing.assert_array_equal(cup.pixels, (mask == 3) & inside)
    np.testing.assert_array_equal(car.pixels, (mask == 0) & inside)  # 0 is a class where it has a name


@pytest.mark.parametrize("names", [None, LabelSet(("other",), (9,))])
def test_a_class_that_nobody_has_named_is_all_that_is_labelled(names):
    mask = ids(id3=((2, 8), (2, 8)), id255=((8, 12), (0, 16)))
    (region,) = regions(boxes=detections((0, 0, 16, 12), labels=("cup",)), mask=mask, names=names)
    np.testing.assert_array_equal(region.pixels, mask == 3)


def test_of_a_mask_alone_connected_regions_count_by_their_names():
    mask = ids(id1=((0, 4), (0, 4)))
    mask[6:10, 6:10] = 1
    mask[11, 15] = 1  # too few pixels
    first, second = regions(mask=mask, names=CLASS_FREE, min_pixels=4)
    assert np.count_nonzero(first.pixels) == np.count_nonzero(second.pixels) == 16
    assert (first.label, first.score, first.id) == ("object", 1.0, "")
    assert not regions(mask=ids(), names=CLASS_FREE)


def test_of_a_mask_alone_without_names_every_id_but_0_and_255_is_an_object():
    mask = ids(id3=((0, 4), (0, 4)), id4=((0, 4), (4, 8)), id255=((8, 12), (0, 16)))
    found = regions(mask=mask)
    assert [np.count_nonzero(region.pixels) for region in found] == [16, 16]
    assert {region.label for region in found} == {"object"}


def test_of_instances_alone_each_is_an_object_however_it_lies():
    mask = ids(np.uint16, id1=((0, 4), (0, 4)), id300=((6, 9), (6, 12)))
    mask[10:, :2] = 1
    first, second = regions(mask=mask)
    np.testing.assert_array_equal(first.pixels, mask == 1)
    np.testing.assert_array_equal(second.pixels, mask == 300)


def test_noise_is_bounded():
    mask = np.zeros((100, 100), np.uint8)
    mask[::2, ::2] = 1
    mask[:3, :3] = 1
    found = regions(mask=mask, size=(100, 100), names=CLASS_FREE)
    assert len(found) == MAX_REGIONS
    assert found[0].pixels[:3, :3].all()


@pytest.mark.parametrize(("shape", "good"), [((24, 32), True), ((25, 32), True), ((6, 8), True), ((12, 12), False)])
def test_masks_of_another_size_are_scaled_if_they_are_of_the_same_aspect(shape, good):
    mask = np.zeros(shape, np.uint8)
    mask[: shape[0] // 2, : shape[1] // 2] = 1
    if good:
        (region,) = regions(mask=mask, names=CLASS_FREE)
        expected = np.zeros(SIZE, np.bool_)
        expected[:6, :8] = True
        np.testing.assert_array_equal(region.pixels, expected)
        return
    with pytest.raises(ImageMessageError, match="the mask is 12x12, the depth image 16x12") as caught:
        regions(mask=mask, names=CLASS_FREE)
    assert caught.value.cause == "size"


@pytest.mark.parametrize(
    ("frames", "good"),
    [
        (("camera", "camera", "camera"), True),
        (("", "camera", "camera"), True),
        (("camera", "", ""), True),
        (("camera", "depth", "depth"), False),
        (("camera", "camera", "other"), False),
    ],
)
def test_results_depth_and_camera_are_of_one_frame(frames, good):
    results, depth, camera = (Header(frame_id=name) for name in frames)
    frame = Located(
        {"detections": Detection2DArray(header=results)}, Image(header=depth), CameraInfo(header=camera), None
    )
    if good:
        check_frame_ids(frame)
        return
    with pytest.raises(ImageMessageError, match=f"depth in '{frames[1]}', camera_info in '{frames[2]}'") as caught:
        check_frame_ids(frame)
    assert caught.value.cause == "frame_id"
