from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.io.media import VideoReader, VideoWriter, expand, is_video, read_image, write_image

RED_BLUE = np.array([[[255, 0, 0], [0, 0, 255]], [[255, 0, 0], [0, 0, 255]]], np.uint8)


def picture(size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def test_folder_lists_its_media_by_name_and_not_below(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.mp4", "notes.txt", "sub/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    extra = tmp_path / "notes.txt"
    assert [path.name for path in expand([tmp_path, extra])] == ["a.jpg", "b.PNG", "c.mp4", "notes.txt"]
    assert [is_video(path) for path in expand([tmp_path])] == [False, False, True]


def test_folder_without_media_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} holds no image"):
        expand([tmp_path])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tiff"])
def test_colours_survive_a_round_trip(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"café{suffix}"
    write_image(path, RED_BLUE)
    assert np.array_equal(read_image(path), RED_BLUE)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((4, 6), 77, np.uint8),
        np.dstack([np.full((4, 6, 3), 77, np.uint8), np.zeros((4, 6), np.uint8)]),
        np.full((4, 6, 3), 77 * 257, np.uint16),
    ],
    ids=["grey", "transparent", "16 bit"],
)
def test_other_pixel_formats_become_rgb(pixels: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    assert np.array_equal(read_image(tmp_path / "a.png"), np.full((4, 6, 3), 77, np.uint8))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.6, 0.98])
def test_truncated_image_is_refused(suffix: str, keep: float, tmp_path: Path) -> None:
    path = tmp_path / f"cut{suffix}"
    write_image(path, picture((200, 300)))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(InputError, match=f"cannot read {path}: not a whole image"):
        read_image(path)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(InputError, match="not a whole image"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(InputError, match="cannot write"):
        write_image(tmp_path / "no" / "folder.png", RED_BLUE)


@pytest.mark.parametrize("size", [(48, 64), (49, 65)])
def test_video_round_trip(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    levels = [0, 80, 160, 240]
    with VideoWriter(path, 15) as writer:
        for level in levels:
            writer.write(np.full((*size, 3), (level, 0, 0), np.uint8))
    reader = VideoReader(path)
    frames = list(reader)
    assert (reader.fps, reader.length) == (15, 4)
    assert frames[0].shape == (48, 64, 3)
    assert [frame[..., 0].mean() for frame in frames] == pytest.approx(levels, abs=12)
    assert max(frame[..., 2].mean() for frame in frames) < 12


def test_no_frame_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "v.mp4", 15):
        pass
    assert not (tmp_path / "v.mp4").exists()


def test_bad_videos_are_refused(tmp_path: Path, capfd) -> None:
    with pytest.raises(InputError, match="no such file"):
        VideoReader(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(InputError, match="not a video"):
        VideoReader(tmp_path / "text.mp4")
    with VideoWriter(tmp_path / "small.mp4", 15) as writer, pytest.raises(InputError, match="1x1 pixels"):
        writer.write(np.zeros((1, 1, 3), np.uint8))
    capfd.readouterr()  # the decoder's own complaints
