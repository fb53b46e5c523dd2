"""Labelled photographs: found by their hashes, judged box by box, and drawn; the committed labels are whole."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import photographs as bench

from objloc_ros.io.media import read_image, read_image_size, write_image

SIZE = (96, 128)
DISC = [40, 24, 48, 48]
"""x, y, width, height of the disc on every picture."""


def hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def paint(path: Path, seed: int) -> str:
    """Write a bright disc on dark noise; return its hash."""
    image = np.random.default_rng(seed).integers(20, 40, (*SIZE, 3), dtype=np.uint8)
    cv2.circle(image, (64, 48), 24, (250, 200, 60), cv2.FILLED)
    write_image(path, image)
    return hash_file(path)


def write_labels(path: Path, images: list[dict[str, Any]]) -> Path:
    annotations = [{"id": 2 * i, "image_id": image["id"], "bbox": DISC} for i, image in enumerate(images)]
    annotations += [{"id": 2 * i + 1, "image_id": image["id"], "bbox": [0, 0, 9, 9]} for i, image in enumerate(images)]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def measure(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["photographs.py", *map(str, arguments)])
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)
    bench.main()


def judgement(main_box: list[float] | None, *overlaps: list[float]) -> bench.Judgement:
    box = None if main_box is None else np.array(main_box, np.float32)
    return bench.Judgement(box, np.array(overlaps, np.float64).reshape(len(overlaps), -1))


def photograph(*boxes: list[float]) -> bench.Photograph:
    return bench.Photograph("a.png", "", "", "", "", np.array(boxes, np.float64).reshape(-1, 4), ())


def test_a_run_measures_what_is_there_and_lists_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper = tmp_path / "pictures" / "deeper"
    deeper.mkdir(parents=True)
    present = {"id": 7, "file_name": "disc.png", "sha256": paint(deeper / "renamed.png", 0), "source": "here"}
    absent = {"id": 3, "file_name": "gone.jpg", "sha256": "0" * 64, "source": "a far place"}
    labels = write_labels(tmp_path / "labels.json", [present, absent])
    figures, sheets = tmp_path / "figures.json", tmp_path / "sheets"
    measure(
        monkeypatch, "--images", tmp_path / "pictures", "--labels", labels, "--methods", "lost", "maskcut",
        "--json", figures, "--sheets", sheets,
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "missing: gone.jpg (a far place)" in printed
    assert "1 of 2 photographs with 2 objects" in printed
    document = json.loads(figures.read_text())
    assert list(document["methods"]) == ["lost", "maskcut"]
    assert document["methods"]["lost"] == {"corloc": 1, "any": 1, "found": 1, "iou": pytest.approx(0.8, abs=0.2),
                                           "boxes": 1}  # fmt: skip
    assert document["each"]["disc.png"]["objects"] == 2
    assert document["each"]["disc.png"]["maskcut"]["found"] == 1
    drawn = read_image(sheets / "photographs_lost.jpg")
    assert (np.abs(drawn.astype(int) - bench.HIT_RGB).sum(axis=2) < 60).sum() > 100
    assert (sheets / "photographs_maskcut.jpg").is_file()


def test_licensed_photographs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [{"id": i, "file_name": f"{i}.png", "sha256": paint(tmp_path / f"{i}.png", i)} for i in range(2)]
    images[1]["licence"] = "CC0"
    labels = write_labels(tmp_path / "labels.json", images)
    figures = tmp_path / "figures.json"
    measure(
        monkeypatch, "--images", tmp_path, "--labels", labels, "--methods", "lost", "--licensed", "--json", figures
    )  # fmt: skip
    assert "1 of 1 photographs" in capsys.readouterr().out
    assert list(json.loads(figures.read_text())["each"]) == ["1.png"]


def test_missing_photographs_are_downloaded_and_their_hashes_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    origin, target = tmp_path / "origin", tmp_path / "images"
    origin.mkdir()
    digests = [paint(origin / f"{name}.png", seed) for seed, name in enumerate(("good", "changed"))]
    paint(origin / "changed.png", 5)
    names = ("good.png", "changed.png", "nowhere.png")
    images = [
        {"id": i, "file_name": name, "sha256": digest, "url": (origin / name).as_uri()}
        for i, (name, digest) in enumerate(zip(names, [*digests, "1" * 64], strict=True))
    ]
    labels = write_labels(tmp_path / "labels.json", images)
    measure(monkeypatch, "--images", target, "--labels", labels, "--methods", "lost", "--fetch")
    printed = capsys.readouterr().out
    assert [path.name for path in target.iterdir()] == ["good.png"]
    assert hash_file(target / "good.png") == digests[0]
    assert f"not {digests[1]}: left out" in printed
    assert "cannot fetch" in printed
    assert "1 of 3 photographs" in printed


def test_nothing_there_is_an_error_with_a_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = write_labels(tmp_path / "labels.json", [{"id": 1, "file_name": "gone.jpg", "sha256": "0" * 64}])
    with pytest.raises(SystemExit, match=r"none of the 1 photographs of .*: try --fetch"):
        measure(monkeypatch, "--images", tmp_path, "--labels", labels)


def test_labels_without_a_hash_are_refused(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.json", [{"id": 4, "file_name": "a.png"}])
    with pytest.raises(bench.InputError, match="image 4 must have a text sha256, got None"):
        bench.read_photographs(labels)


def test_figures_count_photographs_boxes_and_objects() -> None:
    photographs = [photograph([0, 0, 10, 10], [20, 0, 30, 10]), photograph([0, 0, 10, 10]), photograph([0, 0, 4, 4])]
    judgements = [
        judgement([0, 0, 10, 9], [0.9, 0.0], [0.0, 0.5], [0.0, 0.49]),  # both found
        judgement([50, 0, 60, 10], [0.0], [0.8]),  # by its second box alone
        bench.Judgement(None, np.zeros((0, 1))),  # nothing
    ]
    assert bench.summarise(judgements, photographs) == pytest.approx(
        {"corloc": 1 / 3, "any": 2 / 3, "found": 3, "iou": (0.9 + 0.8) / 3, "boxes": 5 / 3}
    )
    assert judgements[0].hits.tolist() == [True, True, False]


def test_committed_labels_are_whole() -> None:
    photographs = bench.read_photographs(bench.LABELS)
    document = json.loads(bench.LABELS.read_text())
    assert len({one.sha256 for one in photographs}) == len({one.name for one in photographs}) == len(photographs)
    for one, image in zip(photographs, document["images"], strict=True):
        assert len(bytes.fromhex(one.sha256)) == 32
        assert one.nouns
        assert len(one.boxes)
        assert (one.boxes >= 0).all()
        assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()
        assert (one.boxes[:, 2:] <= [image["width"], image["height"]]).all()
        assert one.url.startswith("https://") or "scikit-image" in one.source
    assert not set(document["info"]["distractors"]) & {noun for one in photographs for noun in one.nouns}


def test_sizes_and_hashes_are_those_of_scikit_images_files() -> None:
    photographs = {one.sha256: one.name for one in bench.read_photographs(bench.LABELS)}
    sizes = {
        image["sha256"]: (image["height"], image["width"]) for image in json.loads(bench.LABELS.read_text())["images"]
    }
    files = bench.find_files([Path(bench.skimage.data.__file__).parent], bench.read_photographs(bench.LABELS))
    assert len(files) == 7
    for digest, path in files.items():
        assert path.name == photographs[digest]
        assert read_image_size(path) == sizes[digest]


def test_photographs_are_named_by_the_closest_noun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.full((*SIZE, 3), (70, 110, 70), np.uint8)
    cv2.circle(image, (64, 48), 30, (220, 30, 30), cv2.FILLED)
    images = []
    for name, nouns in (("right.png", ["red object"]), ("wrong.png", ["blue object"])):
        image[0, 0] = len(images)  # another hash
        write_image(tmp_path / name, image)
        images.append({"id": name, "file_name": name, "sha256": hash_file(tmp_path / name), "nouns": nouns})
    document = {"images": images, "annotations": [], "info": {"distractors": ["white object"]}}
    (tmp_path / "labels.json").write_text(json.dumps(document))
    figures = tmp_path / "figures.json"
    measure(
        monkeypatch, "--images", tmp_path, "--labels", tmp_path / "labels.json", "--methods", "--clip", "tiny_clip",
        "--json", figures,
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "named right: 1 of 2\n  wrong.png: red object, not blue object" in printed
    assert json.loads(figures.read_text())["names"] == {"right.png": "red object", "wrong.png": "red object"}
    assert "CorLoc" not in printed
