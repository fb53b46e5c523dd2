"""What is found below folders, and how it is cut."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from objloc_ros.errors import InputError
from objloc_ros.prelabels.sources import Piece, Sources, find_sources, find_twins, make_pieces

BAG = "rosbag2_bagfile_information:\n"


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(BAG if name.endswith("metadata.yaml") else "x")
    return root


def test_a_tree_of_everything(tmp_path: Path) -> None:
    root = make(
        tmp_path / "in",
        "b.png",
        "day 1/a.JPG",
        "day 1/clip.mp4",
        "day 1/run/metadata.yaml",
        "day 1/run/run_0.mcap",
        "day 1/run/thumbnail.png",
        "loose.mcap",
        "old.db3",
        "readme.txt",
        ".hidden.png",
        ".cache/c.png",
        "images/metadata.txt",
    )
    found = find_sources([root], out=tmp_path / "out")
    assert found == Sources(
        root,
        images=("b.png", "day 1/a.JPG"),
        videos=("day 1/clip.mp4",),
        bags=("day 1/run", "loose.mcap", "old.db3"),
    )


def test_files_by_name_and_twice(tmp_path: Path) -> None:
    root = make(tmp_path, "a/1.png", "a/2.png", "b/v.avi", "b/odd.xyz", "bag/metadata.yaml")
    inputs = [root / "a", root / "a/1.png", root / "b/v.avi", root / "b/odd.xyz", root / "bag"]
    found = find_sources(inputs, out=tmp_path / "out")
    assert found == Sources(root, ("a/1.png", "a/2.png", "b/odd.xyz"), ("b/v.avi",), ("bag",))
    assert find_sources([root / "bag"], out=tmp_path / "out") == Sources(root, bags=("bag",))


def test_results_below_the_input_are_not_labelled_again(tmp_path: Path) -> None:
    root = make(tmp_path, "1.png", "out/images/2.png", "other/out/3.png")
    assert find_sources([root], out=root / "out").images == ("1.png", "other/out/3.png")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing", "cannot read .*missing: no such file or folder"),
        ("empty", "there is no image, video or bag in .*empty"),
        ("out/images", "lies in .*out, where results go"),
        ("out", "lies in .*out, where results go"),
    ],
)
def test_inputs_that_are_none(tmp_path: Path, given: str, message: str) -> None:
    make(tmp_path, "out/images/1.png", "empty/notes.txt")
    with pytest.raises(InputError, match=message):
        find_sources([tmp_path / given], out=tmp_path / "out")


FOUND = Sources(Path("/r"), ("a.png", "d/1.png", "d/e/2.png", "d/z.png"), ("d/v.mp4", "d_v.mp4"), ("run",))


def test_blocks_of_images_then_videos_and_bags() -> None:
    pieces = [shard.input for shard in make_pieces(FOUND, block=3)]
    assert pieces == [
        Piece("images_00000000", "images", Path("/r"), ("a.png", "d/1.png", "d/e/2.png"), 0),
        Piece("images_00000003", "images", Path("/r"), ("d/z.png",), 3),
        Piece("d_v_mp4", "video", Path("/r"), ("d/v.mp4",)),
        Piece("d_v_mp4_2", "video", Path("/r"), ("d_v.mp4",)),
        Piece("run", "bag", Path("/r"), ("run",)),
    ]
    assert [shard.name for shard in make_pieces(FOUND, block=3)] == [piece.name for piece in pieces]
    assert pickle.loads(pickle.dumps(pieces)) == pieces


def test_the_images_of_a_folder_stay_together() -> None:
    pieces = [shard.input for shard in make_pieces(FOUND, block=1, sequences=True)]
    assert [(piece.name, piece.files, piece.start) for piece in pieces[:3]] == [
        ("images", ("a.png",), 0),
        ("d", ("d/1.png", "d/z.png"), 1),
        ("d_e", ("d/e/2.png",), 3),
    ]


def test_frames_never_go_where_images_are_copied_to() -> None:
    (piece,) = [
        shard.input
        for shard in make_pieces(Sources(Path("/r"), ("v_mp4/1.png",), ("v.mp4",)))
        if shard.input.kind == "video"
    ]
    assert piece.name == "v_mp4_2"


@pytest.mark.parametrize(
    ("images", "same"),
    [
        ((), None),
        (("a.jpg", "b.jpg", "d/a.jpg", "a.jpg.png"), None),
        (("a.jpg", "a.jpg.png", "a.png", "b.jpg", "b.png"), ("a.jpg", "a.png")),
        (("d.x/a", "d.y/a"), None),
    ],
)
def test_images_that_differ_only_in_their_suffixes(images: tuple[str, ...], same: tuple[str, str] | None) -> None:
    assert find_twins(images) == same
