"""Held-out scenes: the truth they carry, the scores, and the embedded model well above what needs no training."""

import numpy as np
import pytest

from objloc_ros.cli.evaluate import COLUMNS, format_table
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.evaluation import held_out_scenes as module
from objloc_ros.evaluation.held_out_scenes import HeldOutScene, evaluate_baselines, evaluate_pipeline, make_scenes
from objloc_ros.scenes.compose import Bank


@pytest.fixture(autouse=True)
def small_bank(monkeypatch):
    """Few pictures: drawing those for thousands of scenes would take most of the time."""
    monkeypatch.setattr(module, "Bank", lambda seed, **numbers: Bank(seed, backgrounds=30, sprites=80))


def test_scenes_come_from_their_seed():
    first, again, other = (next(make_scenes(1, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


def test_truth_boxes_have_exclusive_maxima():
    identities = np.zeros((4, 6), np.uint8)
    identities[1:3, 2:5] = 1
    identities[3, 5] = 3
    np.testing.assert_array_equal(
        HeldOutScene(np.zeros((4, 6, 3), np.uint8), identities).boxes(), [[2, 1, 5, 3], [5, 3, 6, 4]]
    )


def test_the_embedded_model_beats_what_needs_no_training():
    """Floors well under the model card's figures, on few scenes, beside the baselines of the same run."""
    scenes = list(make_scenes(30, seed=11))
    pipeline = load_pipeline(device="cpu")
    scores = evaluate_pipeline(pipeline, scenes)
    baselines = evaluate_baselines(pipeline, scenes)
    assert set(baselines) == {"random ViT", "colour patches"}
    floors = {"lost": 0.70, "tokencut": 0.70, "deep_spectral": 0.60, "maskcut": 0.70, "maskcut_recall50": 0.6}
    for name, floor in floors.items():
        assert scores[name] > floor, name
        assert scores[name] > max(row[name] for row in baselines.values()) + 0.1, name
    assert scores["maskcut_ap50"] > 0.5
    assert scores["found"] > 0.55
    assert scores["background"] > baselines["random ViT"]["background"] + 0.1
    assert "dino_seg" not in baselines["colour patches"]  # colours have no attention


def test_the_table_has_a_dash_where_a_measure_does_not_apply():
    columns = {"lost": "LOST", "found": "FOUND"}
    lines = format_table({"tiny": {"lost": 0.5, "found": 1.0}, "x": {"lost": 0.1}}, columns)
    assert lines.splitlines() == [
        "|  | LOST | FOUND |",
        "| --- | ---: | ---: |",
        "| tiny | 0.500 | 1.000 |",
        "| x | 0.100 | – |",
    ]


def test_every_score_has_a_column():
    scores = evaluate_pipeline(load_pipeline(device="cpu"), make_scenes(2, seed=12))
    assert set(scores) == set(COLUMNS)
