"""The page of one run: each section, published beside measured, best and worst, nothing from elsewhere."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.evaluation.report.page import write_page
from objloc_ros.evaluation.report.published import load_rows
from objloc_ros.evaluation.report.results import FORMAT

SLIDES = load_rows()[0].source
SECTIONS = ["Metrics", "Settings", "Plots", "Best images", "Worst images", "Failed images"]


def document(**changes):
    whole = {
        "format": FORMAT,
        "software": "objloc_ros 0.1.0",
        "dataset": "ecssd",
        "split": "",
        "kind": "saliency",
        "method": "tokencut",
        "backbone": "dino_vits16",
        "options": {"tau": 0.2},
        "images": 1000,
        "failed": [],
        "metrics": {"iou": 0.722, "accuracy": 0.918, "maxf_selfmask": 0.8, "maxf_tokencut": 0.803, "mae": 0.0512},
        "protocol": {"truth": "positive"},
        "seconds": 12.5,
        "machine": "2 cores",
    }
    return {**whole, **changes}


def scores(*values):
    return [{"key": f"k{i}", "image": f"k{i}.jpg", "score": value} for i, value in enumerate(values)]


def grey(key):
    """A picture whose grey level is the number in the key."""
    return np.full((20, 30, 3), int(key[1:]), np.uint8)


@pytest.fixture
def written(tmp_path, outline):
    def write(result, images=(), picture=grey):
        path = tmp_path / "report.html"
        write_page(path, result, images, picture)
        assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
        return outline(path.read_text(encoding="utf-8"))

    return write


def grey_levels(seen):
    """What is on the pictures, in their order."""
    data = [base64.b64decode(image["src"].removeprefix("data:image/jpeg;base64,")) for image in seen.images]
    return [round(float(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).mean())) for jpeg in data]


def test_published_numbers_stand_beside_the_measured_ones(written) -> None:
    seen = written(document())
    assert seen.headings == ["TokenCut on ECSSD", *SECTIONS]
    assert seen.rows == [
        ["metric", "measured", "published", "difference", "published where"],
        ["Acc", "91.8", "91.8", "+0.0", SLIDES],
        ["IoU", "72.2", "71.2", "+1.0", SLIDES],
        ["maxF SelfMask", "80.0", "–", "", ""],
        ["maxF TokenCut", "80.3", "80.3", "+0.0", SLIDES],
        ["MAE", "0.0512", "–", "", ""],
    ]
    assert "They are not comparable." in seen.text
    assert "not comparable with the published" not in seen.text


def test_published_numbers_name_their_row(written) -> None:
    options = {"mode": "single", "post": "none"}
    seen = written(document(method="found", backbone="dino_vits8", options=options, metrics={"iou": 0.78}))
    assert ["IoU", "78.0", "79.3", "-1.3", f"{SLIDES}, row 'single'"] in seen.rows
    assert ["Acc", "–", "91.2", "", f"{SLIDES}, row 'single'"] in seen.rows


def test_a_part_of_the_data_set_is_said_first_and_has_no_difference(written) -> None:
    seen = written(document(images=50))
    assert "50 of the 1000 images of ECSSD: not comparable with the published numbers of the whole." in seen.text
    assert ["IoU", "72.2", "71.2", "", SLIDES] in seen.rows


def test_data_of_ones_own_has_no_published_numbers(written) -> None:
    seen = written(document(dataset="my photos", images=50, metrics={"iou": 0.5}))
    assert seen.rows[1:] == [["IoU", "50.0", "–", "", ""]]
    assert "not comparable with the published" not in seen.text


def test_settings_are_listed(written) -> None:
    text = " ".join(written(document()).text.split())
    for part in ("tau 0.2", "protocol: truth positive", "duration 12.5 s", "machine 2 cores", "images 1000"):
        assert part in text


def test_best_and_worst_images_share_none(written) -> None:
    values = [0.5, 0.9, 0.1, None, 0.9, 0.3]
    seen = written(document(), scores(*values))
    assert [image["alt"].rpartition(" ")[2] for image in seen.images] == ["k1", "k4", "k0", "k2", "k5"]
    assert grey_levels(seen) == [1, 4, 0, 2, 5]
    assert {(image["width"], image["height"]) for image in seen.images} == {("30", "20")}
    assert "Scores of 5 images; 1 without one" in seen.text


def test_many_images_show_six_and_six_made_smaller(written) -> None:
    def big(key):
        return np.zeros((720, 1440, 3), np.uint8)

    seen = written(document(), scores(*np.linspace(0, 1, 40)), big)
    assert [image["alt"].rpartition(" ")[2] for image in seen.images] == [
        *(f"k{i}" for i in (39, 38, 37, 36, 35, 34)),
        *(f"k{i}" for i in range(6)),
    ]
    assert {(image["width"], image["height"]) for image in seen.images} == {("360", "180")}


def test_red_stays_red(written) -> None:
    def red(key):
        return np.full((16, 16, 3), (250, 10, 10), np.uint8)

    seen = written(document(), scores(0.5), red)
    jpeg = base64.b64decode(seen.images[0]["src"].removeprefix("data:image/jpeg;base64,"))
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert np.allclose(bgr.mean(axis=(0, 1)), (10, 10, 250), atol=4)


def test_an_image_that_is_gone_leaves_its_reason(written) -> None:
    def gone(key):
        raise InputError(f"cannot read {key}.jpg")

    seen = written(document(), scores(0.5), gone)
    assert seen.images == []
    assert "no picture: cannot read k0.jpg" in seen.text


def test_a_picture_that_is_none_leaves_its_reason(written) -> None:
    seen = written(document(), scores(0.5), lambda key: np.zeros((4, 4), np.uint8))
    assert "no picture: expected an RGB uint8 array" in seen.text


def test_plots_of_scores_thresholds_and_classes(written) -> None:
    curves = {"precision": [0.2, 0.6, 1.0], "recall": [1.0, 0.5, 0.0]}
    images = [{**image, **curves} for image in scores(0.1, 0.2)]
    seen = written(document(metrics={"iou": 0.5, "per_class": {"cat": 0.4, "dog": None}}), images)
    assert seen.svgs == 3
    assert "Precision, recall and F (β² 0.3) over thresholds" in seen.text
    assert "IoU of each of 2 classes" in seen.text
    assert "cat" in seen.text


def test_without_scores_there_is_no_plot(written) -> None:
    seen = written(document(), scores(None))
    assert seen.svgs == 0
    assert "No image has a score." in seen.text
    assert seen.text.count("None.") == 3  # best, worst, failed


def test_failed_images_are_listed(written) -> None:
    failed = [{"key": f"f{i}", "reason": "truncated" if i else ""} for i in range(502)]
    seen = written(document(failed=failed))
    assert "f0: no reason given" in seen.text
    assert "f499: truncated" in seen.text
    assert "f500" not in seen.text
    assert "And 2 more, in result.json." in seen.text


def test_everything_is_escaped(tmp_path, outline) -> None:
    bad = "<script>alert('1')</script>"
    result = document(
        **dict.fromkeys(("dataset", "split", "method", "backbone", "machine", "software"), bad),
        options={bad: bad},
        protocol={bad: bad},
        metrics={bad: 1.0, "per_class": {bad: 0.5}},
        failed=[{"key": bad, "reason": bad}],
    )

    def refuse(key):
        raise InputError(bad)

    write_page(tmp_path / "page.html", result, [{"key": bad, "score": 1.0}], refuse)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    outline(page)
    assert "<script" not in page
    assert page.count("&lt;script") > 12


def test_the_same_run_gives_the_same_bytes(tmp_path) -> None:
    for name in ("a.html", "b.html"):
        write_page(tmp_path / name, document(), scores(0.1, 0.9, 0.9), grey)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_page_follows_the_reader_and_prints(tmp_path) -> None:
    write_page(tmp_path / "page.html", document(), scores(0.1), grey)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for part in ('<html lang="en">', "prefers-color-scheme: dark", "@media print", 'name="viewport"', 'scope="col"'):
        assert part in page


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([{"score": 1.0}], "image 0: key must be a text, got None"),
        ([{"key": "a", "score": float("nan")}], "image 'a': score must be a finite number, got nan"),
        ([{"key": "a", "score": "high"}], "image 'a': score must be a finite number, got 'high'"),
        (
            [{"key": "a", "score": 1, "precision": [1, 2], "recall": [0, 1]}],
            r"lists of fractions in \[0, 1\], got values from 0 to 2",
        ),
        ([{"key": "a", "score": 1, "precision": [1], "recall": [0, 1]}], "lists of equal length"),
        ([{"key": "a", "score": 1, "precision": [], "recall": []}], "lists of fractions"),
        ([{"key": "a", "score": 1, "precision": 1, "recall": 1}], "lists of fractions"),
    ],
)
def test_bad_images_are_named_and_nothing_is_written(tmp_path, images, message) -> None:
    with pytest.raises(InputError, match=message):
        write_page(tmp_path / "page.html", document(), images, grey)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_result_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match="images must be a whole number"):
        write_page(tmp_path / "page.html", document(images=None), [], grey)
