"""Where `image_source` gets frames from: pictures, folders, videos, scenes, webcams; what cannot be read is named."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.nodes import frame_sources
from objloc_ros.nodes.frame_sources import open_source, parse_size


def picture(path, value, size=(6, 8)):
    cv2.imwrite(str(path), np.full((*size, 3), value, np.uint8))
    return path


def video(path, frames=3):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (16, 16))
    for i in range(frames):
        writer.write(np.full((16, 16, 3), 80 * i, np.uint8))
    writer.release()
    return path


def levels(frames, count):
    return [round(float(frame.rgb.mean()) / 10) * 10 for frame in itertools.islice(frames, count)]


def test_a_picture_is_repeated_in_rgb(tmp_path):
    path = picture(tmp_path / "a.png", (10, 20, 30))
    frames = list(itertools.islice(open_source(str(path)), 3))
    assert len(frames) == 3
    assert frames[2].rgb[0, 0].tolist() == [30, 20, 10]
    assert frames[0].truth is None
    assert len(list(open_source(str(path), loop=False))) == 1


def test_a_folder_is_read_in_order_and_again(tmp_path):
    for name, value in (("b.png", 20), ("a.PNG", 10), ("c.jpg", 30)):
        picture(tmp_path / name, value)
    (tmp_path / "notes.txt").write_text("not a picture")
    assert levels(open_source(str(tmp_path)), 5) == [10, 20, 30, 10, 20]
    assert levels(open_source(str(tmp_path), loop=False), 5) == [10, 20, 30]


def test_a_video_is_read_to_its_end_and_again(tmp_path):
    path = video(tmp_path / "v.avi")
    assert levels(open_source(str(path)), 5) == [0, 80, 160, 0, 80]
    assert levels(open_source(str(path), loop=False), 5) == [0, 80, 160]


def test_a_scene_knows_the_truth_and_depends_on_its_seed():
    def first(seed):
        return next(open_source("scene", size=(64, 48), seed=seed, frames=1))

    frame = first(3)
    assert frame.rgb.shape == (48, 64, 3)
    assert frame.truth.shape == (48, 64)
    assert np.array_equal(frame.rgb, first(3).rgb)
    assert not np.array_equal(frame.rgb, first(4).rgb)


def test_a_scene_repeats_when_it_ends():
    frames = list(itertools.islice(open_source("scene", size=(32, 24), frames=2), 3))
    assert np.array_equal(frames[2].rgb, frames[0].rgb)
    assert not np.array_equal(frames[1].rgb, frames[0].rgb)


def test_photographs_of_the_package_pass_before_the_camera():
    frames = list(open_source("photographs", size=(64, 48), frames=16, loop=False))
    assert len(frames) == 16
    assert {frame.rgb.shape for frame in frames} == {(48, 64, 3)}
    assert all(frame.truth is None for frame in frames)
    changes = [np.abs(one.rgb.astype(int) - other.rgb).mean() for one, other in itertools.pairwise(frames)]
    assert max(changes[::2]) < min(changes[1::2]), "each of the eight has two frames"
    again = list(itertools.islice(open_source("photographs", size=(64, 48), frames=16), 17))
    assert np.array_equal(again[16].rgb, frames[0].rgb)


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (None, (60, 80)),
        ((40, 40), (30, 40)),
        ((800, 30), (30, 40)),
        ((800, 600), (60, 80)),  # never enlarged
        ((1, 1), (1, 1)),
    ],
)
def test_pictures_are_shrunk_to_fit(tmp_path, size, shape):
    path = picture(tmp_path / "a.png", 9, size=(60, 80))
    assert next(open_source(str(path), size=size)).rgb.shape == (*shape, 3)


@pytest.mark.parametrize(("text", "size"), [("", None), ("640x480", (640, 480)), ("1x8192", (1, 8192))])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["640", "640x", "0x4", "8193x1", "640x480x3", "-1x5", "axb"])
def test_bad_sizes(text):
    with pytest.raises(InputError, match=r"640x480.*got"):
        parse_size(text)


def broken_picture(folder):
    (folder / "a.jpg").write_bytes(b"no jpeg")
    return folder / "a.jpg"


def empty_folder(folder):
    return folder


def text_file(folder):
    (folder / "a.txt").write_text("hello")
    return folder / "a.txt"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "none.png", "does not exist"),
        (broken_picture, "not a whole image"),
        (empty_folder, "holds no pictures"),
        (text_file, "not a video"),
        (lambda _: "/dev/video99", "cannot be opened"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(tmp_path, make, words):
    with pytest.raises(InputError, match=words):
        open_source(str(make(tmp_path)))


def test_a_broken_picture_in_a_folder_is_named(tmp_path):
    picture(tmp_path / "a.png", 1)
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"b\.png"):
        list(open_source(str(tmp_path), loop=False))


def test_a_webcam_that_is_unplugged(monkeypatch):
    class Camera:
        left = 3

        def isOpened(self):  # noqa: N802
            return True

        def set(self, *_):
            pass

        def read(self):
            self.left -= 1
            return self.left >= 0, np.zeros((4, 4, 3), np.uint8)

        def release(self):
            pass

    monkeypatch.setattr(frame_sources.cv2, "VideoCapture", lambda _: Camera())
    frames = open_source("0", size=(4, 4))
    assert len(list(itertools.islice(frames, 2))) == 2
    with pytest.raises(InputError, match="no longer delivers"):
        next(frames)
