"""Views of 3D models: a software renderer's pictures with alpha, cropped to what they show.

VTK draws, headless through EGL or OSMesa. It is needed for this only, so it is installed beside the material that is
made with it and not with the package.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from objloc_ros.errors import InputError
from objloc_ros.io.files import write_text
from objloc_ros.types import Image

VTK = "vtk==9.7.2"

ELEVATIONS_DEG = (5.0, 35.0)
"""Range of the camera's height above the model: how things stand before people and robots."""

FRONT_DEG = 125.0
"""Views turn around the front by up to this; the backs of furniture are plain boards."""

OPAQUE = 0.6
"""Least opacity of a material: fainter glass would leave holes in the object."""

Rotation = tuple[float, ...]
"""The nine numbers of a rotation matrix, row by row."""


@dataclass(frozen=True)
class Viewpoint:
    """Where the camera and the light are.

    Args:
        azimuth: Degrees around the vertical axis.
        elevation: Degrees above the ground.
        light: Degrees from the camera to the main light, around the vertical axis.
        brightness: Intensity of the main light, about 1.
    """

    azimuth: float
    elevation: float
    light: float
    brightness: float


def spread_viewpoints(rng: np.random.Generator, count: int) -> list[Viewpoint]:
    """Return `count` viewpoints around the front of a model, each at a height and with a light of its own."""
    return [
        Viewpoint(
            azimuth=float(FRONT_DEG * (2 * (number + rng.uniform(0.1, 0.9)) / count - 1)),
            elevation=float(rng.uniform(*ELEVATIONS_DEG)),
            light=float(rng.uniform(-70, 70)),
            brightness=float(rng.uniform(0.8, 1.2)),
        )
        for number in range(count)
    ]


def import_vtk(folder: Path) -> ModuleType:
    """Import VTK, which pip installs into `folder` when it is found nowhere.

    Raises:
        InputError: If it can be neither imported nor installed.
    """
    sys.path.append(str(folder))
    try:
        import vtk
    except ModuleNotFoundError:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), VTK]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise InputError(f"models are rendered by {VTK}, which pip cannot install: {last}") from None
        import vtk
    module: ModuleType = vtk
    return module


class RenderProcess:
    """Renders models in a process of its own, as VTK ends the process on some of them.

    Args:
        folder: Where VTK is, or goes, when it is not installed.
        side: Longest side of the pictures in pixels.

    Raises:
        InputError: If VTK can be neither imported nor installed.
    """

    def __init__(self, folder: Path, *, side: int) -> None:
        import_vtk(folder)
        self._folder, self._side = folder, side
        self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, get_context("spawn"), _make_renderer, (self._folder, self._side))

    def render(self, model: Path, viewpoints: list[Viewpoint], *, rotation: Rotation | None) -> list[Image | None]:
        """Draw a model as `ModelRenderer.render` does; nothing but None for one that VTK cannot bear."""
        try:
            return self._pool.submit(_render, model, viewpoints, rotation).result()
        except BrokenProcessPool:
            print(f"left out, as it ends the renderer: {model}", file=sys.stderr)
            self._pool = self._start()
            return [None] * len(viewpoints)


_renderer: list[ModelRenderer] = []
"""That of a process started by `RenderProcess`."""


def _make_renderer(folder: Path, side: int) -> None:
    _renderer.append(ModelRenderer(import_vtk(folder), side=side))


def _render(model: Path, viewpoints: list[Viewpoint], rotation: Rotation | None) -> list[Image | None]:
    return _renderer[0].render(model, viewpoints, rotation=rotation)


class ModelRenderer:
    """Renders Wavefront OBJ models with their materials and textures.

    Args:
        vtk: The module, from `import_vtk`.
        side: Side of the pictures in pixels; they are drawn at twice that and scaled down.
    """

    def __init__(self, vtk: ModuleType, *, side: int) -> None:
        self._vtk: Any = vtk
        self._side = side
        vtk.vtkObject.GlobalWarningDisplayOff()

    def render(
        self, model: Path, viewpoints: list[Viewpoint], *, rotation: Rotation | None = None
    ) -> list[Image | None]:
        """Draw the model from each viewpoint.

        Args:
            model: OBJ file, its MTL file and textures beside it.
            viewpoints: Where to look from.
            rotation: Turns the model upright: nine numbers, row by row.

        Returns:
            RGBA uint8 for each viewpoint, cropped, its longer side at most `side` pixels; None where nothing is seen.
        """
        window = self._load(model)
        renderer = window.GetRenderers().GetFirstRenderer()
        self._prepare(renderer, rotation)
        bounds = renderer.ComputeVisiblePropBounds()
        pictures: list[Image | None] = [None] * len(viewpoints)
        if bounds[0] < bounds[1]:
            for number, viewpoint in enumerate(viewpoints):
                self._aim(renderer, viewpoint, bounds)
                window.Render()
                pictures[number] = self._read(window)
        window.Finalize()
        return pictures

    def _load(self, model: Path) -> Any:
        window = self._vtk.vtkRenderWindow()
        window.SetOffScreenRendering(1)
        window.SetAlphaBitPlanes(1)
        window.SetMultiSamples(0)
        window.SetSize(2 * self._side, 2 * self._side)
        renderer = self._vtk.vtkRenderer()
        renderer.SetBackground(0, 0, 0)
        renderer.SetBackgroundAlpha(0)
        renderer.AutomaticLightCreationOff()
        window.AddRenderer(renderer)
        importer = self._vtk.vtkOBJImporter()
        importer.SetFileName(str(mend_model(model)))
        if model.with_suffix(".mtl").exists():
            importer.SetFileNameMTL(str(model.with_suffix(".mtl")))
        importer.SetTexturePath(str(model.parent))
        importer.SetRenderWindow(window)
        importer.Update()
        return window

    def _prepare(self, renderer: Any, rotation: Rotation | None) -> None:
        """Turn the model upright and make its materials visible from all sides."""
        matrix = self._vtk.vtkMatrix4x4()
        for place, value in enumerate(rotation or ()):
            matrix.SetElement(place // 3, place % 3, value)
        actors = renderer.GetActors()
        actors.InitTraversal()
        for _ in range(actors.GetNumberOfItems()):
            actor = actors.GetNextActor()
            actor.SetUserMatrix(matrix)
            surface = actor.GetProperty()
            surface.SetAmbientColor(surface.GetDiffuseColor())
            surface.SetAmbient(0.4)
            surface.SetDiffuse(0.7)
            surface.SetSpecular(min(surface.GetSpecular(), 0.4))
            surface.SetOpacity(max(surface.GetOpacity(), OPAQUE))

    def _aim(self, renderer: Any, viewpoint: Viewpoint, bounds: tuple[float, ...]) -> None:
        low, high = np.array(bounds[0::2]), np.array(bounds[1::2])
        centre, radius = (low + high) / 2, float(np.linalg.norm(high - low)) / 2
        camera = renderer.GetActiveCamera()
        camera.SetViewAngle(30)
        camera.SetFocalPoint(*centre)
        camera.SetPosition(*(centre + 4 * radius * _direct(viewpoint.azimuth, viewpoint.elevation)))
        camera.SetViewUp(0, 1, 0)
        renderer.ResetCamera(bounds)
        camera.Zoom(1.25)
        renderer.ResetCameraClippingRange()
        renderer.RemoveAllLights()
        for azimuth, elevation, intensity in (
            (viewpoint.azimuth + viewpoint.light, 50.0, viewpoint.brightness),
            (viewpoint.azimuth - viewpoint.light, 10.0, 0.25),
        ):
            light = self._vtk.vtkLight()
            light.SetFocalPoint(*centre)
            light.SetPosition(*(centre + 10 * radius * _direct(azimuth, elevation)))
            light.SetIntensity(intensity)
            renderer.AddLight(light)

    def _read(self, window: Any) -> Image | None:
        from vtk.util.numpy_support import vtk_to_numpy

        reader = self._vtk.vtkWindowToImageFilter()
        reader.SetInput(window)
        reader.SetInputBufferTypeToRGBA()
        reader.ReadFrontBufferOff()
        reader.Update()
        image = reader.GetOutput()
        columns, rows, _ = image.GetDimensions()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, 4)[::-1]
        return crop_view(pixels.astype(np.uint8))


def mend_model(model: Path) -> Path:
    """Return an OBJ file without faces of one or two corners, which VTK refuses: the model's, or one written beside."""
    lines = model.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if not (line.startswith("f ") and len(line.split()) < 4)]
    if len(kept) == len(lines):
        return model
    mended = model.with_name(f"{model.stem}.mended.obj")
    write_text(mended, "".join(kept))
    return mended


def crop_view(pixels: Image) -> Image | None:
    """Return a view drawn on transparent black at half its size, cropped to what it shows; None if that is nothing.

    Args:
        pixels: uint8 [2 S, 2 S, 4] RGBA, its colours multiplied by alpha.
    """
    rows, columns = np.nonzero(pixels[..., 3] > 127)
    if len(rows) < 200:
        return None
    box = pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    half = max(1, box.shape[1] // 2), max(1, box.shape[0] // 2)
    small = cv2.resize(box, half, interpolation=cv2.INTER_AREA).astype(np.float32)
    alpha = small[..., 3:]
    colours = small[..., :3] * 255 / np.maximum(alpha, 1)
    return np.concatenate([np.clip(colours, 0, 255), alpha], axis=2).round().astype(np.uint8)


def _direct(azimuth: float, elevation: float) -> np.ndarray[Any, Any]:
    """Return the unit vector to a place around the model; y is up."""
    around, above = np.radians(azimuth), np.radians(elevation)
    return np.array([np.sin(around) * np.cos(above), np.sin(above), np.cos(around) * np.cos(above)])
