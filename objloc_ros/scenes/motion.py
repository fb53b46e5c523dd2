"""Short videos of scenes: objects that drift and turn under a camera that sways, with exact truth in every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from objloc_ros.scenes.compose import Bank, Camera, Pasted, Scene, Window, render
from objloc_ros.types import Image, Size

NOISE = 3.0
"""Standard deviation of the sensor's noise, grey levels: new in every frame."""


@dataclass(frozen=True)
class Motion:
    """How a scene moves; lengths in canvas units, angles in radians.

    Args:
        drifts: Velocity x, y and turn of each object, per frame.
        sway: Amplitude of the camera's path, x and y.
        zoom: Height of the view in the middle of its range; it varies by 0.06.
        phases: Where the camera's path starts, for x, y and zoom.
    """

    drifts: tuple[tuple[float, float, float], ...]
    sway: tuple[float, float]
    zoom: float
    phases: tuple[float, float, float]

    @classmethod
    def random(cls, rng: np.random.Generator, objects: int) -> Motion:
        """About half a per cent of the picture's height per frame for objects, one per cent for the camera."""
        drifts = tuple((rng.normal(0, 0.006), rng.normal(0, 0.004), rng.normal(0, 0.01)) for _ in range(objects))
        sway = (float(rng.uniform(0.02, 0.08)), float(rng.uniform(0.02, 0.08)))
        x, y, zoom = (float(phase) for phase in rng.uniform(0, 2 * np.pi, 3))
        return cls(drifts, sway, 0.92, (x, y, zoom))

    def window(self, frame: int, aspect: float) -> Window:
        """Return what the camera sees in a frame."""
        height = self.zoom + 0.06 * np.sin(self.phases[2] + frame / 9)
        x, y = (
            amplitude * (np.sin(phase + frame / period) - np.sin(phase))
            for amplitude, phase, period in zip(self.sway, self.phases, (8, 7), strict=False)
        )
        return Window(x + (1 - height) / 2 * aspect, y + (1 - height) / 2, height)

    def objects(self, scene: Scene, frame: int) -> tuple[Pasted, ...]:
        """Return where the scene's objects are in a frame."""
        return tuple(
            replace(o, x=o.x + dx * frame, y=o.y + dy * frame, angle=o.angle + turn * frame)
            for o, (dx, dy, turn) in zip(scene.objects, self.drifts, strict=True)
        )


def render_video(
    rng: np.random.Generator, bank: Bank, scene: Scene, size: Size, *, frames: int, camera: Camera | None = None
) -> Iterator[tuple[Image, Image]]:
    """Render a video of a scene.

    Args:
        rng: Source of randomness.
        bank: Pictures that the scene refers to.
        scene: What is to be seen in the first frame.
        size: Height and width in pixels.
        frames: Number of frames.
        camera: How strongly the video is degraded; the same in all its frames, but for the noise.

    Yields:
        RGB uint8 [H, W, 3] and identities uint8 [H, W]: 0 for the background, i + 1 for `scene.objects[i]`.
    """
    motion = Motion.random(rng, len(scene.objects))
    look = int(rng.integers(2**31))
    for frame in range(frames):
        now = replace(scene, objects=motion.objects(scene, frame))
        window = motion.window(frame, scene.aspect)
        image, identities = render(np.random.default_rng(look), bank, now, size, window=window, camera=camera)
        noisy = image + rng.normal(0, NOISE, image.shape).astype(np.float32)
        yield np.clip(noisy, 0, 255).astype(np.uint8), identities
