"""Rooms with cartons and drums whose every pixel's depth is known: rays are cast from a camera with known intrinsics.

The world's x points ahead, y left and z up, as in REP 103; the camera stands above its origin, and the floor is z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from objloc_ros.ops.point_clouds import CameraModel, Depth, pixel_rays
from objloc_ros.scenes.textures import texture
from objloc_ros.types import Image

Floats = npt.NDArray[np.float64]

TEXELS, TEXTURE_M = 192, 0.6
"""Side of a texture in pixels and on a surface in metres; it repeats."""

DARK = (0.75, 0.9, 1.0)
"""Brightness of faces across x, y and z in a solid's own axes."""


@dataclass(frozen=True)
class Solid:
    """A carton, or an upright drum.

    Args:
        kind: Which of the two; a drum has its first size as diameter.
        center: In the world, in metres.
        size: Along its own axes, in metres.
        yaw: Angle from the world's x to its own, in radians.
    """

    kind: Literal["carton", "drum"]
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float = 0.0

    @property
    def rotation(self) -> Floats:
        """Turns its own axes to the world's: float64 [3, 3]."""
        cosine, sine = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


@dataclass(frozen=True)
class Room:
    """A floor, a wall across the view, solids, and a camera.

    Args:
        camera: Intrinsics.
        height: Of the camera above the floor in metres.
        pitch: By which it looks down, in radians.
        wall: Distance of the wall in metres.
        solids: What stands there.
    """

    camera: CameraModel
    height: float
    pitch: float
    wall: float
    solids: tuple[Solid, ...]

    @property
    def rotation(self) -> Floats:
        """Turns the camera's optical frame to the world: float64 [3, 3]."""
        cosine, sine = np.cos(self.pitch), np.sin(self.pitch)
        return np.array([[0, -sine, cosine], [-1, 0, 0], [0, -cosine, -sine]])

    @property
    def translation(self) -> Floats:
        """Position of the camera in the world: float64 [3]."""
        return np.array([0.0, 0.0, self.height])


@dataclass(frozen=True)
class View:
    """What the camera of a room sees.

    Args:
        image: RGB uint8 [H, W, 3].
        depth_m: Along the optical axis, float32 [H, W]; 0 where a pixel has no ray.
        identities: uint8 [H, W]; 0 for floor and wall, i + 1 for `Room.solids[i]`.
    """

    image: Image
    depth_m: Depth
    identities: Image


def default_camera(width: int = 640, height: int = 480, *, distorted: bool = False) -> CameraModel:
    """Return a camera of 66 degrees across; distorted, one whose corners lie 7 % nearer to the middle."""
    focal = width / 1.3
    lens = ((-0.12, 0.03, 0.001, -0.001, 0.0), "plumb_bob") if distorted else ((), "")
    return CameraModel(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2, *lens)


def random_room(rng: np.random.Generator, camera: CameraModel, *, solids: int = 5) -> Room:
    """Return a room with up to so many solids, apart from each other; some are long and seen from their end."""
    placed: list[Solid] = []
    for _ in range(8 * solids):
        distance, bearing = rng.uniform(0.9, 3.8), rng.uniform(-0.42, 0.42)
        yaw = float(bearing + rng.uniform(-np.pi / 2, np.pi / 2))
        if rng.random() < 0.2:
            size, yaw = (rng.uniform(0.9, 1.5), rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.6)), float(bearing)
        else:
            size = (rng.uniform(0.15, 0.6), rng.uniform(0.15, 0.6), rng.uniform(0.15, 0.8))
        kind: Literal["carton", "drum"] = "drum" if rng.random() < 0.3 and size[0] < 0.7 else "carton"
        if kind == "drum":
            size, yaw = (size[0], size[0], size[2]), float(bearing)
        reach = np.hypot(size[0], size[1]) / 2
        at = (distance + reach) * np.array([np.cos(bearing), np.sin(bearing)])
        if all(np.hypot(*(at - o.center[:2])) > reach + np.hypot(*o.size[:2]) / 2 + 0.05 for o in placed):
            center = (float(at[0]), float(at[1]), size[2] / 2)
            placed.append(Solid(kind, center, (float(size[0]), float(size[1]), float(size[2])), yaw))
        if len(placed) == solids:
            break
    return Room(camera, float(rng.uniform(0.5, 1.3)), float(rng.uniform(0.1, 0.5)), rng.uniform(5, 7), tuple(placed))


def render_room(rng: np.random.Generator, room: Room) -> View:
    """Cast a ray through every pixel's centre; textures are drawn from `rng`."""
    rays = pixel_rays(room.camera)
    ahead = np.concatenate([rays, np.ones_like(rays[..., :1])], axis=-1).astype(np.float64) @ room.rotation.T
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.where(ahead[..., 2] < 0, -room.height / ahead[..., 2], np.inf)
        wall = np.where(ahead[..., 0] > 0, room.wall / ahead[..., 0], np.inf)
    depth = np.minimum(floor, wall)
    identities = np.zeros(depth.shape, np.uint8)
    on_floor = (floor <= wall)[..., None]
    spot = room.translation + depth[..., None] * ahead
    ground = _sample(texture(rng, TEXELS), spot[..., :2])
    pixels = np.where(on_floor, ground, _sample(texture(rng, TEXELS), spot[..., 1:]))
    for number, solid in enumerate(room.solids):
        surface = texture(rng, TEXELS)
        origin = solid.rotation.T @ (room.translation - np.array(solid.center))
        own = ahead @ solid.rotation
        hit, face = (_hit_carton if solid.kind == "carton" else _hit_drum)(origin, own, np.array(solid.size) / 2)
        nearer = hit < depth
        depth[nearer], identities[nearer] = hit[nearer], number + 1
        pixels[nearer] = _paint(surface, origin + hit[nearer, None] * own[nearer], face[nearer])
    seen = np.isfinite(depth) & np.isfinite(rays[..., 0])
    pixels += rng.normal(0, 2, (*depth.shape, 1))
    image = np.clip(np.where(seen[..., None], pixels, 0), 0, 255).astype(np.uint8)
    return View(image, np.where(seen, depth, 0).astype(np.float32), np.where(seen, identities, 0).astype(np.uint8))


def _hit_carton(origin: Floats, ahead: Floats, half: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Where rays enter a box around the origin, by slabs: lengths [H, W], infinite for a miss, and the axis hit."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (-half - origin) / ahead, (half - origin) / ahead
    enters, leaves = np.minimum(one, other), np.maximum(one, other)
    first = enters.max(axis=-1)
    hits = (first <= leaves.min(axis=-1)) & (first > 0)
    return np.where(hits, first, np.inf), enters.argmax(axis=-1)


def _hit_drum(origin: Floats, ahead: Floats, half: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Where rays enter an upright cylinder around the origin: its mantle, axis 0, or its lid, axis 2."""
    a = (ahead[..., :2] ** 2).sum(-1)
    b = ahead[..., :2] @ origin[:2]
    square = b**2 - a * ((origin[:2] ** 2).sum() - half[0] ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        mantle = (-b - np.sqrt(square)) / a
        lid = (half[2] - origin[2]) / ahead[..., 2]
    aside = np.abs(origin[2] + mantle * ahead[..., 2]) <= half[2]
    on_lid = np.hypot(*np.moveaxis(origin[:2] + lid[..., None] * ahead[..., :2], -1, 0)) <= half[0]
    mantle = np.where(aside & (mantle > 0), mantle, np.inf)
    lid = np.where(on_lid & (lid > 0) & (origin[2] > half[2]), lid, np.inf)
    return np.minimum(mantle, lid), np.where(lid < mantle, 2, 0)


def _paint(surface: npt.NDArray[np.float32], spots: Floats, face: npt.NDArray[np.intp]) -> Floats:
    """Colours [N, 3] of spots [N, 3] on a solid, each on a face across one of its axes."""
    aside = np.array([(1, 2), (0, 2), (0, 1)])[face]
    colours = _sample(surface, np.take_along_axis(spots, aside, axis=1))
    return colours * np.array(DARK)[face, None]


def _sample(surface: npt.NDArray[np.float32], spots: Floats) -> Floats:
    """Colours of spots [..., 2] in metres, of a texture that repeats."""
    texel = (np.nan_to_num(spots, posinf=0, neginf=0) * (TEXELS / TEXTURE_M)).astype(np.int64) % TEXELS
    return surface[texel[..., 0], texel[..., 1]].astype(np.float64)
