"""Labels from several sources: those of self-training (Wang et al., CVPR 2023, section 3.5), of teachers, of tracks.

After a training, the detector finds objects that its labels lack. What it is surest of becomes the labels of the next
round, with those labels before that it does not contradict. The paper keeps scores of 0.7 and 0.65; those of a small
detector mean something else for each teacher, so that here the best are kept, in proportion to the labels before.
(A part of all detections would not do: most have low scores, and their number depends on the least that is reported.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.ops.regions import BoolMap, mask_ious
from objloc_ros.training.detector_labels import NO_TRACK, ImageLabels, Labels

SAME_IOU = 0.5
"""Two masks with less than this IoU are of different objects."""

Places = npt.NDArray[np.int64]


def merge_rounds(
    previous: BoolMap,
    predicted: BoolMap,
    scores: npt.NDArray[np.floating],
    *,
    threshold: float,
    overlap: float = SAME_IOU,
) -> tuple[Places, Places]:
    """Choose the labels of one image for the next round: sure predictions, and what else was labelled before.

    Args:
        previous: bool [m, H, W], masks of the labels so far.
        predicted: bool [n, H, W], masks that the detector predicts.
        scores: float [n] of the predictions.
        threshold: Least score of a prediction that is kept.
        overlap: IoU from which on a kept prediction replaces a label.

    Returns:
        The places of the kept predictions, int64, and of the kept labels, both ascending. A label that no kept
        prediction overlaps is never lost.
    """
    sure = np.flatnonzero(np.asarray(scores) >= threshold)
    return sure, _find_others(previous, predicted[sure], overlap)


def choose_threshold(predicted: Labels, count: int) -> float:
    """Return the score that this many of all objects reach, more where scores are equal.

    It is the lowest score if there are fewer objects, and infinity if there are none or none is wanted.
    """
    scores = np.sort(np.concatenate([np.zeros(0), *(image.scores for image in predicted.images)]))[::-1]
    return float(scores[:count].min(initial=np.inf))


def merge_labels(previous: Labels, predicted: Labels, *, threshold: float, overlap: float = SAME_IOU) -> Labels:
    """Make the labels of the next round, image by image, see `merge_rounds`.

    Returns:
        All images of `previous`, in their order, and then those that only `predicted` has. In an image the kept
        predictions come first.
    """
    previous, predicted = _number_alike([previous, predicted])
    found = {image.name: image for image in predicted.images}
    merged = []
    for image in previous.images:
        news = found.pop(image.name, None)
        if news is not None:
            _check_sizes(image, news)
            sure, others = merge_rounds(image.masks, news.masks, news.scores, threshold=threshold, overlap=overlap)
            image = replace(news.select(sure).append(image.select(others)), file=image.file)
        merged.append(image)
    merged += [image.select(np.flatnonzero(image.scores >= threshold)) for image in found.values()]
    return replace(previous, images=tuple(merged), left_out=0)


def unite_labels(labels: Sequence[Labels], overlap: float = SAME_IOU) -> Labels:
    """Unite what several teachers have found: all objects of the first, and of each further one those that are new.

    Of two masks of one object, with an IoU of at least `overlap`, that of the earlier teacher stays, whatever the
    scores: teachers mean different things by them.
    """
    return reduce(lambda first, second: merge_labels(second, first, threshold=-np.inf, overlap=overlap), labels)


def keep_consistent(labels: Labels, frames: int) -> Labels:
    """Keep the objects that are tracked over some images at least; images stay, with or without objects."""
    tracks, counts = _count_frames(labels)
    lasting = tracks[counts >= frames]
    images = (image.select(np.flatnonzero(np.isin(image.tracks, lasting))) for image in labels.images)
    return replace(labels, images=tuple(images))


def check_tracks(labels: Labels, frames: int) -> None:
    """Make sure that `keep_consistent` would keep something.

    Raises:
        InputError: If no object has a track, or none over that many images.
    """
    tracks, counts = _count_frames(labels)
    if not len(tracks):
        raise InputError(
            f"{labels.document}: no object has a track, so none can be consistent over {frames} images: track objects "
            "with objloc prelabel --tracks, or leave --consistent out"
        )
    if counts.max() < frames:
        raise InputError(
            f"{labels.document}: the longest track has {counts.max()} images, fewer than {frames}: lower --consistent"
        )


def _count_frames(labels: Labels) -> tuple[Places, Places]:
    """Return the tracks of all images, int64, and the number of images that show each."""
    shown = np.concatenate([np.zeros(0, np.int64), *(np.unique(image.tracks) for image in labels.images)])
    tracks, counts = np.unique(shown[shown != NO_TRACK], return_counts=True)
    return tracks, counts


def _find_others(masks: BoolMap, taken: BoolMap, overlap: float) -> Places:
    """Find the masks that overlap none of those that are taken."""
    overlaps = mask_ious(masks, taken)
    return np.flatnonzero((overlaps < overlap).all(axis=1))


def _number_alike(labels: Sequence[Labels]) -> list[Labels]:
    """Number the categories of one name alike, in order of appearance, and tracks of different labels differently."""
    classes = tuple(dict.fromkeys(name for some in labels for name in some.classes))
    numbered, first_track = [], 0
    for some in labels:
        table = np.array([classes.index(name) for name in some.classes], np.int64)
        images = tuple(
            replace(
                image,
                categories=table[image.categories],
                tracks=np.where(image.tracks == NO_TRACK, NO_TRACK, image.tracks + first_track),
            )
            for image in some.images
        )
        numbered.append(replace(some, classes=classes, images=images))
        first_track += 1 + max((int(image.tracks.max()) for image in some.images if len(image)), default=NO_TRACK)
    return numbered


def _check_sizes(image: ImageLabels, other: ImageLabels) -> None:
    if image.size != other.size:
        raise InputError(
            f"image {image.name!r} has {list(image.size)} rows and columns in one document and {list(other.size)} in "
            "another: label the same pictures"
        )
