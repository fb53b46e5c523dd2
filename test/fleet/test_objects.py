"""The objects of pre-labels: where they were seen, and what documents are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fleet_making import SIZE, picture, prelabels

from objloc_ros.data.coco_document import PRELABELS
from objloc_ros.errors import InputError
from objloc_ros.fleet.objects import read_fleet

RED, BLUE, BOX = (220, 60, 40), (40, 60, 220), (10, 20, 50, 60)


def change(folder: Path, **fields: object) -> Path:
    document = json.loads((folder / PRELABELS).read_text())
    (folder / PRELABELS).write_text(json.dumps(document | fields))
    return folder


def test_objects_come_in_the_order_of_images(tmp_path: Path) -> None:
    two = (picture(RED, BOX), [BOX, (60, 20, 90, 60)])
    none, one = (picture(BLUE, BOX), []), (picture(BLUE, BOX), [BOX])
    fleet = read_fleet([prelabels(tmp_path, [two, none, one])])
    assert fleet.counts.tolist() == [2, 0, 1]
    assert fleet.image_numbers.tolist() == [0, 0, 2]
    assert [fleet_object.box[0] for fleet_object in fleet.objects] == [10, 60, 10]
    assert fleet.backbones == ("tiny",)
    mask = fleet.objects[0].decode_mask(SIZE)
    assert mask[20:60, 10:50].all()
    assert mask.sum() == 40 * 40


def test_recordings_are_bags_videos_tracked_folders_and_single_images(tmp_path: Path) -> None:
    seen = (picture(RED, BOX), [BOX])
    about = [
        {"file_name": "bag/front/0.png", "bag": "run.mcap", "topic": "/front", "stamp_ns": 5},
        {"file_name": "clip/0.png", "video": "clip.mp4", "stamp_ns": 0},
        {"file_name": "a/0.png"},
        {"file_name": "a/1.png"},
    ]
    still = read_fleet([prelabels(tmp_path / "still", [seen] * 4, about=about)]).images
    assert [image.recording for image in still] == ["run.mcap", "clip.mp4", "a/0.png", "a/1.png"]
    assert [image.camera for image in still] == ["/front", "", "", ""]
    assert [image.stamp_ns for image in still] == [5, 0, None, None]
    moving = read_fleet([prelabels(tmp_path / "moving", [seen] * 4, about=about, info={"tracks": "all"})]).images
    assert [image.recording for image in moving] == ["run.mcap", "clip.mp4", "a", "a"]


def test_recordings_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    seen, about = (picture(RED, BOX), [BOX]), [{"bag": "run", "topic": "/front"}]
    folders = [prelabels(tmp_path / name, [seen], about=about) for name in ("monday", "tuesday")]
    names = [image.recording for image in read_fleet(folders).images]
    assert names == [f"{folder}: run" for folder in folders]


def test_corrected_documents_are_read(tmp_path: Path) -> None:
    folder = prelabels(tmp_path, [(picture(RED, BOX), [BOX] * 3)])
    records = json.loads((folder / PRELABELS).read_text())["annotations"]
    del records[0]["score"], records[0]["segmentation"]
    records[1]["segmentation"] = [[10, 20, 50, 20, 50, 60, 10, 60]]
    records[2]["attributes"] = {"track_id": 7}
    drawn, polygon, tracked = read_fleet([change(folder, annotations=records) / PRELABELS]).objects
    assert (drawn.score, drawn.track, tracked.track) == (1.0, None, 7)
    assert np.array_equal(drawn.decode_mask(SIZE), tracked.decode_mask(SIZE))
    assert np.array_equal(polygon.decode_mask(SIZE), tracked.decode_mask(SIZE))


def test_what_is_no_fleet_is_refused(tmp_path: Path) -> None:
    folder = prelabels(tmp_path / "a", [(picture(RED, BOX), [BOX])])
    with pytest.raises(InputError, match=r"holds no pre-labels.*make them with objloc prelabel"):
        read_fleet([tmp_path / "missing"])
    with pytest.raises(InputError, match="given twice"):
        read_fleet([folder, folder / PRELABELS])
    (folder / "images" / "000.png").rename(tmp_path / "000.png")
    with pytest.raises(InputError, match=r"000\.png, which is not in .*: say where with --images DIR"):
        read_fleet([folder])
    assert read_fleet([folder], [tmp_path]).images[0].file == tmp_path / "000.png"
    with pytest.raises(InputError, match=r"height and width \[None, 128\]"):
        read_fleet([change(folder, images=[{"id": 1, "file_name": "000.png", "width": 128}])], [tmp_path])
    with pytest.raises(InputError, match="has no file_name"):
        read_fleet([change(folder, images=[{"id": 1, "height": 96, "width": 128}])])
    with pytest.raises(InputError, match="there are no images"):
        read_fleet([change(folder, images=[], annotations=[])])
