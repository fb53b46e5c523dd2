"""Held-out scenes: the truth they carry, the scores, and the embedded model well above what needs no training."""

import numpy as np
import pytest
import torch

from objloc_ros.cli.evaluate import table
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.evaluation.scenes import HeldOut, _is_hit, evaluate_baselines, evaluate_pipeline, held_out_scenes
from objloc_ros.methods.patch_object import PatchObject
from objloc_ros.ops.geometry import plan


def test_scenes_come_from_their_seed():
    first, again, other = (next(held_out_scenes(1, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


def test_truth_boxes_have_exclusive_maxima():
    identities = np.zeros((4, 6), np.uint8)
    identities[1:3, 2:5] = 1
    identities[3, 5] = 3
    np.testing.assert_array_equal(
        HeldOut(np.zeros((4, 6, 3), np.uint8), identities).boxes(), [[2, 1, 5, 3], [5, 3, 6, 4]]
    )


@pytest.mark.parametrize(
    ("columns", "hit"),
    [
        (slice(0, 2), True),  # the object itself
        (slice(0, 4), True),  # an IoU of exactly one half counts
        (slice(0, 5), False),
        (slice(4, 6), False),
        (slice(0, 0), False),  # no object
    ],
)
def test_a_hit_needs_half_of_the_union(columns, hit):
    identities = np.zeros((8, 48), np.uint8)
    identities[:, :16] = 1
    mask = torch.zeros(1, 6, dtype=torch.bool)
    mask[:, columns] = True
    scene = HeldOut(np.zeros((8, 48, 3), np.uint8), identities)
    assert _is_hit(PatchObject(mask, 0), plan((8, 48), patch=8, short_side=None), scene) is hit


def test_the_embedded_model_beats_what_needs_no_training():
    """Floors well under the model card's figures, on few scenes, beside the baselines of the same run."""
    scenes = list(held_out_scenes(60, seed=11))
    pipeline = load_pipeline(device="cpu")
    scores = evaluate_pipeline(pipeline, scenes)
    baselines = evaluate_baselines(pipeline, scenes)
    assert set(baselines) == {"random ViT", "colour patches"}
    for name, floor in (("lost", 0.70), ("tokencut", 0.70)):
        assert scores[name] > floor
        assert scores[name] > max(row[name] for row in baselines.values()) + 0.1
    assert scores["found"] > 0.55
    assert scores["background"] > baselines["random ViT"]["background"] + 0.1


def test_the_table_has_a_dash_where_a_measure_does_not_apply():
    lines = table({"tiny": {"lost": 0.5, "tokencut": 0.25, "background": 0.125, "found": 1.0}, "x": {"lost": 0.1}})
    assert lines.splitlines()[2:] == ["| tiny | 0.500 | 0.250 | 0.125 | 1.000 |", "| x | 0.100 | – | – | – |"]
