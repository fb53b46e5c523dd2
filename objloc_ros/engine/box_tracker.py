"""Ids of objects that last from frame to frame, by SORT (Bewley et al., "Simple Online and Realtime Tracking", 2016).

A Kalman filter predicts where each known box is now, and the assignment with the largest sum of IoUs says which box of
the frame continues which track. Unlike in the paper, the state is centre, its velocity, width and height; sides only
change by noise; and a track has its id from its first frame on, because every box that a method reports gets one.

The covariance of such a filter has few numbers that are not zero, the same for both axes: all tracks are predicted and
corrected at once, in arrays.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from objloc_ros.ops.boxes import iou
from objloc_ros.types import Detections, Size

BOX_UNITS = 1000.0
"""Units per longer side of the image in which boxes are tracked, so that the noise model suits any size."""

MAX_MISSED_FRAMES = 10
"""Number of frames without a box after which a track ends."""

MIN_IOU = 0.2
"""Least IoU of a box with the predicted one that it may continue."""

ACCELERATION = 300.0
"""Variance of the acceleration of a box's centre, in squared box units; a patch is about 30 units wide."""

GROWTH = 100.0
"""Variance of the change of a box's sides, in squared box units."""

MEASUREMENT = 30.0
"""Variance of a measured centre or side, in squared box units."""

START = 1000.0
"""Variance of what is known of a new track: centre, velocity and sides, in squared box units."""

Floats = npt.NDArray[np.float64]

TRACK = np.dtype(
    [
        ("id", np.int64),
        ("label", object),
        ("missed", np.int64),  # frames since it was last seen
        ("box", np.float64, 4),  # centre x, y, width, height
        ("velocity", np.float64, 2),  # of the centre, per frame
        ("centre_var", np.float64),  # of either coordinate, and so are the next two
        ("velocity_var", np.float64),
        ("covariance", np.float64),  # of centre and velocity
        ("side_var", np.float64),
    ]
)


class BoxTracker:
    """Tracks the objects of one camera, those of each label apart; call `update` with every frame in turn.

    Time is counted in frames, however long they took.
    """

    def __init__(self) -> None:
        self._count = 0
        self.forget()

    def forget(self) -> None:
        """End all tracks: the next frame is the first of another video."""
        self._tracks: npt.NDArray[np.void] = np.zeros(0, TRACK)

    def update(self, detections: Detections, size: Size) -> tuple[str, ...]:
        """Assign track ids to the detections of the next frame.

        Args:
            detections: Boxes in pixels.
            size: Height and width of the image.

        Returns:
            One id per detection, "1", "2", ...: the same as in earlier frames for the same object, and never used again
            for another.
        """
        corners = detections.boxes.astype(np.float64) * (BOX_UNITS / max(size))
        labels = np.array(detections.labels, dtype=object)
        predict(self._tracks)
        tracks, places = _match(self._tracks, corners, labels)
        self._tracks[tracks] = correct(self._tracks[tracks], _measure(corners[places]))
        ids = np.zeros(len(detections), np.int64)
        ids[places] = self._tracks["id"][tracks]
        new = np.flatnonzero(ids == 0)
        ids[new] = self._count + 1 + np.arange(len(new))
        self._count += len(new)
        started = start_tracks(ids[new], labels[new], _measure(corners[new]))
        self._tracks = np.concatenate([self._tracks[self._tracks["missed"] < MAX_MISSED_FRAMES], started])
        return tuple(map(str, ids))


def _measure(corners: Floats) -> Floats:
    """Convert boxes (x1, y1, x2, y2) to centres and sides (x, y, width, height): float64 [n, 4]."""
    return np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)


def start_tracks(ids: npt.NDArray[np.int64], labels: npt.NDArray[np.object_], measured: Floats) -> npt.NDArray[np.void]:
    """Make tracks [n] of boxes that continue none."""
    tracks = np.zeros(len(ids), TRACK)
    tracks["id"], tracks["label"], tracks["box"] = ids, labels, measured
    tracks["centre_var"] = tracks["velocity_var"] = tracks["side_var"] = START
    return tracks


def predict(tracks: npt.NDArray[np.void]) -> None:
    """Move tracks [n] on by one frame, in place: P = F P F' + Q, with Q that of a random acceleration."""
    tracks["missed"] += 1
    tracks["box"][:, :2] += tracks["velocity"]
    tracks["centre_var"] += 2 * tracks["covariance"] + tracks["velocity_var"] + ACCELERATION / 4
    tracks["covariance"] += tracks["velocity_var"] + ACCELERATION / 2
    tracks["velocity_var"] += ACCELERATION
    tracks["side_var"] += GROWTH


def _match(
    tracks: npt.NDArray[np.void], corners: Floats, labels: npt.NDArray[np.object_]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return places of tracks [n] and of the boxes [m] that continue them, pair by pair."""
    from scipy.optimize import linear_sum_assignment  # SciPy is large, and most who run FOUND alone do not track

    centre, half = tracks["box"][:, :2], tracks["box"][:, 2:] / 2
    overlap = iou(np.concatenate([centre - half, centre + half], axis=1), corners)  # n m
    overlap[tracks["label"][:, None] != labels[None]] = 0
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    alike = overlap[rows, columns] >= MIN_IOU
    return rows[alike], columns[alike]


def correct(tracks: npt.NDArray[np.void], measured: Floats) -> npt.NDArray[np.void]:
    """Take in the boxes (x, y, width, height) that continue tracks [n]: K = P H' / (P + R), P = (1 - K H) P."""
    gain = tracks["centre_var"] / (tracks["centre_var"] + MEASUREMENT)
    velocity_gain = tracks["covariance"] / (tracks["centre_var"] + MEASUREMENT)
    side_gain = tracks["side_var"] / (tracks["side_var"] + MEASUREMENT)
    error = measured - tracks["box"]
    tracks["missed"] = 0
    tracks["box"] += error * np.stack([gain, gain, side_gain, side_gain], axis=1)
    tracks["velocity"] += error[:, :2] * velocity_gain[:, None]
    tracks["velocity_var"] -= velocity_gain * tracks["covariance"]
    tracks["centre_var"] *= 1 - gain
    tracks["covariance"] *= 1 - gain
    tracks["side_var"] *= 1 - side_gain
    return tracks
