"""`objloc detect --method a,b --compare` with the embedded model."""

import json

import cv2
import numpy as np
import pytest

from objloc_ros.cli.detect import CELL
from objloc_ros.cli.main import main
from objloc_ros.engine.config import HEADS, NODES
from objloc_ros.engine.heads.discovery import METHODS
from objloc_ros.engine.heads.image_methods import IMAGE_METHODS
from objloc_ros.io.contact_sheet import make_contact_sheet
from objloc_ros.io.media import VideoReader, VideoWriter, read_image, write_image
from objloc_ros.methods.options import SEGMENTATION
from objloc_ros.methods.tokencut import tokencut

ON_BACKBONE = [method for method in HEADS if method not in IMAGE_METHODS]


def scene(shift=0):
    """Two squares on a dark ground: RGB uint8 [120, 160, 3]."""
    rgb = np.full((120, 160, 3), 40, np.uint8)
    rgb[20:50, 20 + shift : 50 + shift] = (220, 60, 40)
    rgb[60:100, 90:130] = (60, 200, 90)
    return rgb


@pytest.fixture
def detect(tmp_path):
    """Run the command on inputs below tmp_path, with outputs in tmp_path/out."""

    def call(method, *inputs, options=()):
        paths = [str(tmp_path / name) for name in inputs]
        arguments = ["--method", method, "--device", "cpu", "--out", str(tmp_path / "out"), *options]
        return main(["detect", *paths, *arguments])

    return call


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_instance_mask_numbers_the_detections(detect, tmp_path, capsys):
    write_image(tmp_path / "a.png", scene())
    assert detect("maskcut", "a.png", options=("--post", "none")) == 0
    out = tmp_path / "out"
    assert names(out) == ["a_instances.png", "a_mask.png", "a_overlay.png", "detections.json"]
    instances = cv2.imread(str(out / "a_instances.png"), cv2.IMREAD_UNCHANGED)
    annotations = json.loads((out / "detections.json").read_text())["annotations"]
    assert instances.dtype == np.uint16
    assert len(annotations) >= 2
    assert np.unique(instances).tolist() == list(range(len(annotations) + 1))
    for number, annotation in enumerate(annotations, start=1):
        x, y, width, height = annotation["bbox"]
        rows, columns = (instances == number).nonzero()
        assert (columns.min(), rows.min()) == pytest.approx((x, y), abs=1)
        assert (columns.max() + 1, rows.max() + 1) == pytest.approx((x + width, y + height), abs=1)
    np.testing.assert_array_equal(read_image(out / "a_mask.png")[:, :, 0] > 0, instances > 0)
    assert f"a.png: {len(annotations)} objects (" in capsys.readouterr().out


def test_every_method_has_its_folder_and_its_column(detect, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_image(tmp_path / "in" / f"{name}.png", scene())
    assert detect(",".join(ON_BACKBONE), "in", options=("--compare", "--post", "none", "--prompts", "red square")) == 0
    out = tmp_path / "out"
    for method in ON_BACKBONE:
        made = names(out / method)
        assert {"a_mask.png", "a_overlay.png", "b_overlay.png", "detections.json"} <= set(made)
        assert ("a_instances.png" in made) == (NODES[method] == "discovery")
        assert ("a_labels.png" in made) == (method in SEGMENTATION)
        assert json.loads((out / method / "detections.json").read_text())["info"]["method"] == method
    sheet = read_image(out / "compare.png")
    cells = [np.zeros((*CELL, 3), np.uint8)] * (2 * len(ON_BACKBONE))
    assert sheet.shape == make_contact_sheet(cells, [""] * len(cells), columns=len(ON_BACKBONE), cell=CELL).shape
    printed = capsys.readouterr().out
    assert all(f"{method}: " in printed for method in ON_BACKBONE)


def test_the_records_of_several_methods_are_printed_by_name(detect, tmp_path, capsys):
    write_image(tmp_path / "a.png", scene())
    assert detect("lost,tokencut", "a.png", options=("--json",)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ["lost", "tokencut"]
    for method, document in printed.items():
        assert document == json.loads((tmp_path / "out" / method / "detections.json").read_text())
    assert not (tmp_path / "out" / "compare.png").exists()


def test_a_video_gets_a_film_per_method_and_its_first_frame_on_the_sheet(detect, tmp_path):
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for shift in range(3):
            writer.write(scene(shift))
    assert detect("lost,maskcut", "clip.mp4", options=("--compare", "--post", "none")) == 0
    for method in ("lost", "maskcut"):
        film = VideoReader(tmp_path / "out" / method / "clip_overlay.mp4")
        assert len(list(film)) == 3
    assert (tmp_path / "out" / "compare.png").is_file()


@pytest.mark.parametrize("temporal", [False, True])
def test_the_temporal_mode_keeps_what_a_frame_alone_would_miss(detect, tmp_path, temporal, monkeypatch):
    """The object is hidden from the method in the third frame."""
    frames = iter(range(100))

    def find(features, options):
        seen = tokencut(features.keys, features.grid)
        return [[one] if next(frames) != 2 else [] for one in seen]

    monkeypatch.setitem(METHODS, "tokencut", find)
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for _ in range(4):
            writer.write(scene())
    assert detect("found,tokencut", "clip.mp4", options=("--temporal",) * temporal) == 0
    annotations = json.loads((tmp_path / "out/tokencut/detections.json").read_text())["annotations"]
    assert [annotation["image_id"] for annotation in annotations] == ([1, 2, 3, 4] if temporal else [1, 2, 4])


@pytest.mark.parametrize("tracked", [False, True])
def test_objects_of_a_video_have_ids_on_demand_and_pictures_none(detect, tmp_path, tracked):
    for name in ("clip.mp4", "other.mp4"):
        with VideoWriter(tmp_path / name, 10) as writer:
            for shift in range(3):
                writer.write(scene(shift))
    write_image(tmp_path / "picture.png", scene())
    assert detect("found,maskcut", "clip.mp4", "other.mp4", "picture.png", options=("--track",) * tracked) == 0
    for method in ("found", "maskcut"):
        document = json.loads((tmp_path / "out" / method / "detections.json").read_text())
        tracks = [
            [each.get("track_id") for each in document["annotations"] if each["image_id"] == i] for i in range(1, 8)
        ]
        assert all(tracks), "something is found in each"
        assert all((track is not None) == tracked for frame in tracks[:6] for track in frame)
        if tracked:
            assert tracks[0][0] == tracks[3][0] == 1, "a video has ids of its own"
            assert all(frame[0] == 1 for frame in tracks[:6])
        assert set(tracks[6]) == {None}


def test_options_reach_every_method_that_has_them(detect, tmp_path):
    write_image(tmp_path / "a.png", scene())
    options = ("--tau", "0.1", "--k-patches", "7", "--post", "crf")
    assert detect("lost,tokencut,maskcut", "a.png", options=options) == 0
    used = {
        method: json.loads((tmp_path / "out" / method / "detections.json").read_text())["info"]["options"]
        for method in ("lost", "tokencut", "maskcut")
    }
    assert used["lost"]["k_patches"] == 7
    assert (used["tokencut"]["tau"], used["maskcut"]["tau"]) == (0.1, 0.1)
    assert {each["post"] for each in used.values()} == {"crf"}


@pytest.mark.parametrize("method", ["yolo", "lost,lost", "lost,,maskcut", ""])
def test_methods_must_be_known_and_different(detect, tmp_path, capsys, method):
    write_image(tmp_path / "a.png", scene())
    assert detect(method, "a.png") == 2
    assert f"method must be different ones of {', '.join(HEADS)}; got {method!r}" in capsys.readouterr().err


def test_ignored_areas_hold_no_object_of_any_method(detect, tmp_path):
    write_image(tmp_path / "a.png", scene())
    polygon = "0.5,0.45 0.9,0.45 0.9,0.9 0.5,0.9"  # around the green square
    assert detect("found,maskcut", "a.png", options=("--ignore", polygon, "--post", "none")) == 0
    for method in ("found", "maskcut"):
        document = json.loads((tmp_path / "out" / method / "detections.json").read_text())
        assert document["info"]["ignore"] == polygon
        (box,) = (annotation["bbox"] for annotation in document["annotations"])
        assert box == pytest.approx((20, 20, 30, 30), abs=12)  # patches are large here


def test_an_area_that_is_none_is_refused(detect, tmp_path, capsys):
    write_image(tmp_path / "a.png", scene())
    assert detect("found", "a.png", options=("--ignore", "0,0 160,120")) == 2
    assert (
        "ignore: a corner must lie in [0, 1], as fractions of width and height; got '160,120'"
        in capsys.readouterr().err
    )
