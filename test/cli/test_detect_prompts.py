"""`objloc detect --prompts`: random CLIP weights, so that only what is written and said is judged."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from objloc_ros.backbones.clip import build_clip_image, build_text_transformer
from objloc_ros.backbones.clip_text import SPECIAL_TOKENS, byte_pairs
from objloc_ros.cli.main import main
from objloc_ros.io.drawing import label_overlay
from objloc_ros.io.media import VideoReader, VideoWriter, read_image, write_image
from objloc_ros.types import UNLABELLED

PROMPTS = "red object, blue circle"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the embedded CLIP pair's layout that know a few words."""
    torch.manual_seed(0)
    known = torch.tensor(sorted(byte_pairs().encode("a background blue circle object of photo red")))
    state = {f"visual.{key}": value for key, value in build_clip_image("tiny_clip").visual.state_dict().items()}
    state |= build_text_transformer("tiny_clip", len(known) + SPECIAL_TOKENS).state_dict()
    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file({key: value.clone() for key, value in state.items()} | {"known_tokens": known}, path)
    return path


@pytest.fixture
def detect(weights, tmp_path):
    """Run the command on inputs below tmp_path, with outputs in tmp_path/out."""

    def call(*inputs, method="clip_diy", prompts=PROMPTS, options=()):
        paths = [str(tmp_path / name) for name in inputs]
        asked = [] if prompts is None else ["--prompts", prompts]
        model = ["--clip-weights", str(weights), "--device", "cpu", "--out", str(tmp_path / "out")]
        return main(["detect", *paths, "--method", method, *asked, *model, *options])

    return call


def scene(shift=0):
    """Two squares on a dark ground: RGB uint8 [120, 160, 3]."""
    rgb = np.full((120, 160, 3), 40, np.uint8)
    rgb[20:50, 20 + shift : 50 + shift] = (220, 60, 40)
    rgb[60:100, 90:130] = (60, 200, 90)
    return rgb


@pytest.fixture
def picture(tmp_path):
    write_image(tmp_path / "a.png", scene())
    return tmp_path / "a.png"


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def grey(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize("method", ["clip_diy", "maskclip"])
@pytest.mark.parametrize("background", ["found", "none"])
def test_labels_mask_picture_and_records_agree(detect, picture, tmp_path, capsys, method, background):
    assert detect("a.png", method=method, options=("--background", background, "--min-area", "0")) == 0
    out = tmp_path / "out"
    assert names(out) == ["a_labels.png", "a_mask.png", "a_overlay.png", "detections.json"]
    labels, mask = grey(out / "a_labels.png"), grey(out / "a_mask.png")
    assert (labels.dtype, labels.shape) == (np.uint8, (120, 160))
    present = set(np.unique(labels)) - {UNLABELLED}
    assert present
    assert present <= {0, 1}
    assert (UNLABELLED in labels) == (background == "found")
    assert np.array_equal(mask, np.where(labels == UNLABELLED, 0, 255))
    drawn = label_overlay(scene(), labels, {0: "red object", 1: "blue circle"})
    assert np.array_equal(read_image(out / "a_overlay.png"), drawn)

    found = json.loads((out / "detections.json").read_text())
    assert found["info"]["method"] == method
    assert found["info"]["labels"] == {"0": "red object", "1": "blue circle"}
    assert found["info"]["options"]["background"] == background
    categories = {entry["id"]: entry["name"] for entry in found["categories"]}
    assert len(set(categories.values())) == len(categories)
    seen = {categories[entry["category_id"]] for entry in found["annotations"]}
    assert seen == {("red object", "blue circle")[number] for number in present}
    for entry in found["annotations"]:
        assert 0 <= entry["score"] <= 1
        x, y, width, height = entry["bbox"]
        assert 0 <= x < x + width <= 160
        assert 0 <= y < y + height <= 120
    said = capsys.readouterr().out
    line = r"a\.png: (red object|blue circle) \d+%(, (red object|blue circle) \d+%)?\n"
    assert re.search(line, said)
    assert said.endswith(f"results in {out}\n")


def test_every_pixel_without_a_label_is_said(detect, picture, tmp_path, capsys):
    assert detect("a.png", options=("--threshold", "1")) == 0
    assert (grey(tmp_path / "out" / "a_labels.png") == UNLABELLED).all()
    assert np.array_equal(read_image(tmp_path / "out" / "a_overlay.png"), scene())
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert found["annotations"] == []
    assert found["info"]["labels"] == {"0": "red object", "1": "blue circle"}
    assert "a.png: none of the prompts\n" in capsys.readouterr().out


def test_prompts_count_in_the_order_they_were_given(detect, picture, tmp_path):
    assert detect("a.png", prompts=" blue circle ,red  object, a red, circle") == 0
    info = json.loads((tmp_path / "out" / "detections.json").read_text())["info"]
    assert info["labels"] == {"0": "blue circle", "1": "red  object", "2": "a red", "3": "circle"}


def test_methods_with_and_without_prompts_go_together(detect, picture, tmp_path, capsys):
    assert detect("a.png", method="found,maskclip,clip_diy", options=("--compare",)) == 0
    out = tmp_path / "out"
    for method in ("maskclip", "clip_diy"):
        assert names(out / method) == ["a_labels.png", "a_mask.png", "a_overlay.png", "detections.json"]
        assert "labels" in json.loads((out / method / "detections.json").read_text())["info"]
    assert names(out / "found") == ["a_mask.png", "a_overlay.png", "detections.json"]
    found = json.loads((out / "found" / "detections.json").read_text())
    assert "labels" not in found["info"]
    assert {entry["name"] for entry in found["categories"]} <= {"object"}
    assert (out / "compare.png").is_file()
    said = capsys.readouterr().out
    assert all(f"a.png: {method}: " in said for method in ("found", "maskclip", "clip_diy"))


def test_a_video_is_coloured_frame_by_frame(detect, tmp_path, capsys):
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for shift in range(3):
            writer.write(scene(shift))
    assert detect("clip.mp4", method="maskclip", options=("--background", "none")) == 0
    out = tmp_path / "out"
    assert names(out) == ["clip_overlay.mp4", "detections.json"]
    film = VideoReader(out / "clip_overlay.mp4")
    frames = list(film)
    assert (len(frames), film.fps) == (3, 10)
    assert all(np.abs(frame.astype(int) - scene(i)).mean() > 10 for i, frame in enumerate(frames))
    found = json.loads((out / "detections.json").read_text())
    assert [entry["frame"] for entry in found["images"]] == [0, 1, 2]
    assert found["info"]["labels"] == {"0": "red object", "1": "blue circle"}
    objects = len(found["annotations"])
    assert objects >= 3
    assert f"clip.mp4: 3 frames, {objects} objects\n" in capsys.readouterr().out


def test_json_is_all_that_is_printed(detect, picture, tmp_path, capsys):
    assert detect("a.png", prompts="red zebra", options=("--json",)) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads((tmp_path / "out" / "detections.json").read_text())
    assert err == "objloc: tiny_clip does not know 'zebra': it will guess; lite_clip knows ordinary nouns\n"


def test_unknown_words_are_told_once_each(detect, picture, capsys):
    assert detect("a.png", prompts="red zebra, blue giraffe, zebra, circle") == 0
    out, err = capsys.readouterr()
    assert err == "objloc: tiny_clip does not know 'zebra', 'giraffe': it will guess; lite_clip knows ordinary nouns\n"
    assert "does not know" not in out


def test_known_words_are_not_worth_mentioning(detect, picture, capsys):
    assert detect("a.png") == 0
    assert capsys.readouterr().err == ""


def test_templates_reach_the_prompts(detect, picture, monkeypatch):
    seen = []

    def note(pipeline, prompts, templates):
        seen.append((list(prompts), list(templates)))
        raise KeyboardInterrupt

    monkeypatch.setattr("objloc_ros.engine.pipeline.Pipeline.set_prompts", note)
    for options in ((), ("--templates", "imagenet"), ("--templates", "a {}", "the {}")):
        detect("a.png", options=options)
    asked = ["red object", "blue circle"]
    assert seen == [(asked, ["a photo of a {}"]), (asked, ["imagenet"]), (asked, ["a {}", "the {}"])]


@pytest.mark.parametrize(
    ("method", "prompts", "options", "message"),
    [
        ("clip_diy", None, (), 'clip_diy needs prompts: --prompts "red car, traffic cone"'),
        ("found,maskclip", None, (), "maskclip needs prompts"),
        ("found", "dog", (), "prompts are for clip_diy, maskclip, clip_dinoiser, not for found"),
        ("lost,found", "dog", (), "not for lost, found"),
        ("found", None, ("--templates", "a {}"), "--templates is for clip_diy, maskclip, clip_dinoiser, not for found"),
        ("lost", None, ("--clip", "tiny_clip"), "--clip is for"),
        ("clip_diy", "", (), "prompts must not be empty, got ''"),
        ("clip_diy", "dog,,cat", (), "prompts must not be empty, got ''"),
        ("clip_diy", "dog, ", (), "prompts must not be empty"),
        ("clip_diy", "dog, Dog", (), "prompts must be different, got 'dog' and 'Dog'"),
        ("clip_diy", ",".join(f"dog {i}" for i in range(255)), (), "prompts must be 1 to 254 texts, got 255"),
        ("clip_diy", "dog " * 80, (), "has 86 tokens, at most 77 are read"),
        ("clip_diy", "a\ndog", (), "must not have control characters"),
        ("clip_diy", "dog", ("--templates", "a photo"), "a template must have one {}"),
        ("clip_diy", "dog", ("--templates", "imagenet", "a {}"), "got 'imagenet'"),
        ("clip_diy", "dog", ("--threshold", "1.5"), "threshold must lie in [0, 1], got 1.5"),
        ("maskclip", "dog", ("--clip", "clip_rn50"), "unknown CLIP model 'clip_rn50'; known: clip_vitb32"),
        ("maskclip", "dog", ("--clip-weights", "/no/such.pt"), "no weights file /no/such.pt"),
    ],
)
def test_errors_are_one_line(detect, picture, tmp_path, capsys, method, prompts, options, message):
    assert detect("a.png", method=method, prompts=prompts, options=options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("objloc: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_weights_name_the_command_that_fetches_them(picture, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path / "cache"))
    arguments = ["--clip", "clip_vitb32", "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["detect", str(picture), "--method", "maskclip", "--prompts", "dog", *arguments]) == 2
    err = capsys.readouterr().err
    assert "run `objloc weights fetch clip_vitb32`" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "cache").exists()
