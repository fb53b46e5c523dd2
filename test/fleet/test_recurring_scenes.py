"""Planted recurrences in procedural scenes: one seed of what bench/recurring.py measures."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from objloc_ros.fleet.neighbours import find_neighbours, pair_edges
from objloc_ros.fleet.recurring import RecurringOptions, rank_objects
from objloc_ros.ops.ranking import RANK_METHODS

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
from recurring import describe_scenes, plant_scenes


def test_things_that_come_back_are_ranked_above_others() -> None:
    scenes, kinds = plant_scenes(10)
    nodes = describe_scenes(scenes)
    near = find_neighbours(nodes.image_descriptors, len(nodes), forbidden=nodes.origins)
    options = RecurringOptions()
    edges = [pair_edges(nodes, near, links=options.links, tau=options.tau)]
    by_size = roc_auc_score(kinds >= 0, [np.count_nonzero(identities) for _, identities in scenes])
    assert roc_auc_score(kinds >= 0, rank_objects(edges, nodes, options).scores) >= 0.75
    for method in RANK_METHODS:
        scores = rank_objects(edges, nodes, RecurringOptions(method=method, vectors=1)).scores
        assert roc_auc_score(kinds >= 0, scores) > by_size, method
