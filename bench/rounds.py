"""How good the labels of a round of self-training are: those of the teacher, and what the detector adds to them.

    objloc train detector --teacher maskcut --steps 250 --variants 4 --rounds 2 --out training/maskcut
    python bench/rounds.py training/maskcut

The images are the procedural scenes that the command has written, whose truth can be made again. A label counts as
right if its mask has an IoU of at least 0.5 with an object that no other label has taken. The last row keeps half of
all detections, whatever their number.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from objloc_ros.cli.train_labels import make_scenes
from objloc_ros.io.tables import markdown_table
from objloc_ros.ops.regions import mask_ious
from objloc_ros.training.detector_labels import Labels, read_labels
from objloc_ros.training.rounds import choose_threshold, merge_labels

KEPT = (0.25, 0.5, 0.75, 1.0)
"""Detections for each label of the teacher."""

RIGHT_IOU = 0.5

Truth = Mapping[str, npt.NDArray[np.bool_]]
"""Masks of the objects by name of the image, bool [n, H, W]."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the training")
    parser.add_argument("--scenes", type=int, default=400, help="the first N are judged (default: %(default)s)")
    args = parser.parse_args()
    images = args.out / "images"
    (teacher,) = (args.out / "labels").iterdir()
    (predictions,) = (args.out / "round_2").glob("predictions_*")
    labels, predicted = (read_labels(folder, images, empty_ok=True) for folder in (teacher, predictions))
    truth = make_truth(args.scenes, len(labels.images))
    counts = {f"{keep:g} per label": round(keep * labels.count) for keep in KEPT}
    counts["half of all detections"] = predicted.count // 2
    rows = [[teacher.name, "", *judge(labels, truth)]]
    for name, count in counts.items():
        threshold = choose_threshold(predicted, count)
        merged = merge_labels(labels, predicted, threshold=threshold)
        rows.append([name, f"{threshold:.2f}", *judge(merged, truth)])
    print(markdown_table(["labels", "least score", "per image", "precision", "recall"], rows))


def make_truth(count: int, total: int) -> Truth:
    """Make the masks of the first scenes again."""
    scenes = make_scenes(total)
    truth = {}
    for number in range(min(count, total)):
        _, identities = scenes.render(number)
        truth[f"scene_{number:06d}.png"] = np.array([identities == i for i in np.unique(identities) if i])
    return truth


def judge(labels: Labels, truth: Truth) -> list[str]:
    """Return labels per image, precision and recall, as texts."""
    right = given = wanted = 0
    for image in labels.images:
        if image.name in truth:
            overlaps = mask_ious(image.masks, truth[image.name])
            rows, columns = linear_sum_assignment(overlaps, maximize=True)
            right += int((overlaps[rows, columns] >= RIGHT_IOU).sum())
            given, wanted = given + len(image), wanted + len(truth[image.name])
    return [f"{given / len(truth):.2f}", f"{right / given:.3f}", f"{right / wanted:.3f}"]


if __name__ == "__main__":
    main()
