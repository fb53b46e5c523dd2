"""Depth images as points in metres: the pinhole camera with ROS's models of distortion.

A depth image holds the distance along the optical axis (z), not along the ray, as depth cameras and REP 118 have it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.ops.regions import BoolMap

Depth = npt.NDArray[np.float32]
"""Distance along the optical axis in metres, [H, W]; 0, negative and not finite where it is unknown."""

Points = npt.NDArray[np.float32]
"""[N, 3] in metres; in an optical frame x points right, y down and z forward."""

COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""How many coefficients a model of distortion may have, by its name in sensor_msgs/CameraInfo."""

MAX_RESIDUAL_PX = 0.1
"""Pixels whose undistorted ray does not lead back to them this closely have no ray: no point in space is seen there."""


@dataclass(frozen=True)
class CameraModel:
    """A pinhole camera with distortion, as sensor_msgs/CameraInfo describes it.

    Args:
        width: Of its images in pixels.
        height: Of its images in pixels.
        fx: Focal length in pixels, horizontally.
        fy: Focal length in pixels, vertically.
        cx: Column of the optical axis; pixel centres are whole numbers.
        cy: Row of the optical axis.
        distortion: Coefficients in OpenCV's order; without any, and with zeros alone, there is no
            distortion; but `equidistant` with zeros is a fisheye all the same.
        distortion_model: A key of `COEFFICIENTS`.

    Raises:
        InputError: A size or focal length is not above 0, a number is not finite, the model is unknown or has another
            number of coefficients.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    distortion_model: str = ""

    def __post_init__(self) -> None:
        for name in ("width", "height", "fx", "fy"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"the camera's {name} must be finite and above 0, got {value}")
        for name in ("cx", "cy"):
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"the camera's {name} must be finite, got {getattr(self, name)}")
        if not all(map(math.isfinite, self.distortion)):
            raise InputError(f"the camera's distortion must be finite, got {self.distortion}")
        if self.is_distorted:
            counts = COEFFICIENTS.get(self.distortion_model)
            if counts is None:
                known = ", ".join(COEFFICIENTS)
                raise InputError(f"the camera's distortion model must be one of {known}; got {self.distortion_model!r}")
            if len(self.distortion) not in counts:
                wanted = " or ".join(map(str, counts))
                got = len(self.distortion)
                raise InputError(f"distortion model {self.distortion_model} has {wanted} coefficients, got {got}")

    @property
    def is_distorted(self) -> bool:
        """Whether any coefficient differs from 0, or the lens is a fisheye."""
        return any(self.distortion) or (bool(self.distortion) and self.distortion_model == "equidistant")

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """The matrix K: float64 [3, 3]."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    def scaled(self, height: int, width: int) -> CameraModel:
        """Return the same camera with images of another size.

        Raises:
            InputError: The size is of another aspect: more than a pixel is missing or too much on one side.
        """
        if (height, width) == (self.height, self.width):
            return self
        sx, sy = width / self.width, height / self.height
        if abs(width - self.width * sy) > 1 and abs(height - self.height * sx) > 1:
            sizes = f"{width}x{height}, the camera's {self.width}x{self.height}"
            raise InputError(f"the depth image must have the aspect of its CameraInfo; its size is {sizes}")
        cx, cy = (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        return replace(self, width=width, height=height, fx=self.fx * sx, fy=self.fy * sy, cx=cx, cy=cy)


@lru_cache(maxsize=8)
def pixel_rays(camera: CameraModel) -> npt.NDArray[np.float32]:
    """Return where each pixel's ray meets the plane z = 1: float32 [H, W, 2] as (x, y), read-only.

    NaN where the model of distortion shows no point in space: far corners of a wide lens.
    """
    xs, ys = np.arange(camera.width, dtype=np.float64), np.arange(camera.height, dtype=np.float64)
    plain = np.stack(np.meshgrid((xs - camera.cx) / camera.fx, (ys - camera.cy) / camera.fy), axis=-1)
    rays = (_undistort(camera, plain) if camera.is_distorted else plain).astype(np.float32)
    rays.flags.writeable = False
    return rays


def _undistort(camera: CameraModel, distorted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Undistort points [H, W, 2] on the plane z = 1, and tell those that lead back to their pixel."""
    flat, unit = distorted.reshape(-1, 1, 2), np.eye(3)
    coefficients = np.array(camera.distortion, np.float64)
    if camera.distortion_model == "equidistant":
        straight = cv2.fisheye.undistortPoints(flat, unit, coefficients)
        again = cv2.fisheye.distortPoints(straight, unit, coefficients)
    else:
        ends = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-8)
        straight = cv2.undistortPointsIter(flat, unit, coefficients, np.eye(3), np.eye(3), ends)
        ahead = np.concatenate([straight, np.ones_like(straight[..., :1])], axis=-1)
        again = cv2.projectPoints(ahead, np.zeros(3), np.zeros(3), unit, coefficients)[0]
    residual = np.abs((again - flat) * (camera.fx, camera.fy)).max(axis=-1, keepdims=True)
    return np.where(residual < MAX_RESIDUAL_PX, straight, np.nan).reshape(distorted.shape)


def deproject(depth_m: Depth, camera: CameraModel, where: BoolMap | None = None) -> Points:
    """Return the points that a depth image shows, in the camera's optical frame.

    Args:
        depth_m: Metres along the optical axis, float32 [H, W].
        camera: Of the same size; `CameraModel.scaled` fits one.
        where: Pixels to take, bool [H, W]; all without it.

    Returns:
        float32 [N, 3] in row-major order of the pixels. Pixels without a depth (0, negative, not finite) and without a
        ray (`pixel_rays`) are left out.

    Raises:
        InputError: The sizes differ.
    """
    check_sizes(depth_m, camera)
    known = (depth_m > 0) & np.isfinite(depth_m)
    if where is not None:
        if where.shape != depth_m.shape:
            raise InputError(f"the mask is {_size(where)} pixels large, the depth image {_size(depth_m)}")
        known &= where
    rows, columns = np.nonzero(known)
    points = at_depth(pixel_rays(camera)[rows, columns], depth_m[rows, columns])
    return points[np.isfinite(points[:, 0])]


def at_depth(rays: npt.NDArray[np.float32], depth: npt.NDArray[np.float32]) -> Points:
    """Return the points of rays [N, 2] (`pixel_rays`) at depths [N]: float32 [N, 3]."""
    points = np.empty((len(depth), 3), np.float32)
    np.multiply(rays, depth[:, None], out=points[:, :2])
    points[:, 2] = depth
    return points


def check_sizes(depth_m: Depth, camera: CameraModel) -> None:
    """Raise InputError unless depth image and camera are of one size."""
    if depth_m.shape != (camera.height, camera.width):
        size = _size(depth_m)
        raise InputError(f"the depth image is {size} pixels large, the camera's images {camera.width}x{camera.height}")


def _size(image: npt.NDArray[np.generic]) -> str:
    return "x".join(map(str, image.shape[::-1]))


def transform(points: Points, rotation: npt.NDArray[np.float64], translation: npt.NDArray[np.float64]) -> Points:
    """Turn points [N, 3] by a rotation [3, 3], then shift them by a translation [3]: float32 [N, 3]."""
    return points @ rotation.T.astype(np.float32) + translation.astype(np.float32)
