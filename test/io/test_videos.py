"""Videos written from frames."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from objloc_ros.errors import InputError
from objloc_ros.io import media
from objloc_ros.io.media import VideoReader, write_movie


def frames(*levels, size=(48, 64)):
    return [np.full((*size, 3), level, np.uint8) for level in levels]


def test_mp4(tmp_path):
    path = write_movie(tmp_path / "video", iter(frames(0, 100, 200)), 10.0)
    assert path == tmp_path / "video.mp4"
    video = VideoReader(path)
    assert video.fps == pytest.approx(10.0)
    read = list(video)
    assert [round(float(f.mean()) / 50) * 50 for f in read] == [0, 100, 200]
    assert read[0].shape == (48, 64, 3)


def test_a_camera_that_changes_its_resolution(tmp_path):
    path = write_movie(tmp_path / "video", frames(200) + frames(200, size=(96, 32)), 10.0)
    first, second = VideoReader(path)
    assert first.shape == second.shape == (48, 64, 3)
    assert second[:, 24:40].mean() > 180  # 16 of 64 columns, its own proportions
    assert second[:, :16].mean() < 20
    assert second[:, 48:].mean() < 20


def test_gif_where_there_is_no_encoder(tmp_path, monkeypatch):
    def refuse(self, image):
        raise InputError("no encoder")

    monkeypatch.setattr(media.VideoWriter, "write", refuse)
    path = write_movie(tmp_path / "video", iter(frames(0, 100, 200, size=(480, 640))), 10.0)
    assert path == tmp_path / "video.gif"
    with PIL.Image.open(path) as picture:
        assert (picture.n_frames, picture.size, picture.info["duration"]) == (3, (320, 240), 100)


def test_no_frames(tmp_path):
    with pytest.raises(InputError, match="no frames"):
        write_movie(tmp_path / "video", [], 10.0)
