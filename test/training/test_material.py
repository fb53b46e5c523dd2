"""Real material: packages made here are fetched, cut out and listed; nothing needs a network."""

import io
import json
import shutil
import subprocess
import tarfile
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.scenes.material import load_material
from objloc_ros.training import material_pictures
from objloc_ros.training.material import main, make_material
from objloc_ros.training.material_packages import Source, fetch_package, find_licence, load_sources
from objloc_ros.training.material_pictures import choose_files, limit_side, parse_ranges, read_catalogue, read_cutout
from objloc_ros.training.material_views import FRONT_DEG, crop_view, mend_model, spread_viewpoints

STAMPS = Source("stamps", "debian", "GPL-2", "stamps", "usr/share/stamps", ["*.png"], leave=["*/cartoon/*"])
EMOJI = Source("@them/emoji", "npm", "MIT", "emoji", "package/assets", ["*.png"], code_points={"animal": "1f400-1f43c"})
MODELS = Source(
    "models", "debian", "CC-BY-3.0", "models", "usr/share/models", ["*.sh3f"],
    catalogues={"Free": "CC0-1.0"}, leave_categories=["Doors and windows"],
)  # fmt: skip
WALLS = Source("walls", "debian", "CC-BY-4.0", "grounds", "usr/share/walls", ["*.jpg"], shows_objects=["dog.jpg"])

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb builds and extracts packages")


def png(size=(40, 30), inner=(10, 5)):
    """A green rectangle on transparent black."""
    picture = np.zeros((*size, 4), np.uint8)
    picture[inner[0] : -inner[0], inner[1] : -inner[1]] = [0, 200, 0, 255]
    return cv2.imencode(".png", picture)[1].tobytes()


def jpg(size=(50, 1500)):
    return cv2.imencode(".jpg", np.full((*size, 3), 90, np.uint8))[1].tobytes()


def put_deb(folder, package, files):
    """Build a Debian package with these files, by path."""
    tree = folder.parent / f"{package}.tree"
    for name, content in {"DEBIAN/control": CONTROL.format(package).encode(), **files}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    folder.mkdir(parents=True, exist_ok=True)
    deb = folder / f"{package}_1.2-3_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(deb)], check=True, capture_output=True)


CONTROL = """Package: {}
Version: 1:1.2-3
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: pictures
"""


def put_tgz(folder, name, files):
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / name, "w:gz") as packed:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))


def pack_models():
    catalogue = """model#2=/free/chair/chair.obj
name#2=Armchair
category#2=Bedroom
creator#2=Someone
modelRotation#2=1 0 0 0 0 1 0 -1 0
name#1=Window
category#1=Doors and windows
model#1=/free/window/window.obj
"""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", catalogue)
        archive.writestr("free/chair/chair.obj", "v 0 0 0\n")
    return packed.getvalue()


class FakeRenderer:
    """Knows no OBJ: a rectangle for each viewpoint but the second, which shows nothing."""

    calls = 0

    def __init__(self, folder, *, side):
        self.side = side

    def render(self, model, viewpoints, *, rotation):
        assert model.is_file()
        assert len(rotation) == 9
        FakeRenderer.calls += 1
        pictures = [np.full((self.side, 20, 4), 255, np.uint8) for _ in viewpoints]
        pictures[1] = None
        return pictures


@needs_dpkg
def test_stamps_are_cropped_named_and_listed(tmp_path, capsys):
    root = STAMPS.folder
    put_deb(
        tmp_path / "packages",
        "stamps",
        {
            f"{root}/birds/crow.png": png(),
            f"{root}/birds/crow.txt": "A crow.\nde.utf8=Eine Krähe.\n".encode(),
            f"{root}/birds/cartoon/tux.png": png(),
            f"{root}/full.png": png(inner=(-40, -40)),
        },
    )
    manifest = make_material(tmp_path, [STAMPS])
    assert manifest == json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["files"] == {
        "cutouts/stamps/birds-crow.png": {
            "package": "stamps", "version": "1:1.2-3", "licence": "GPL-2", "name": "A crow", "category": "birds"
        }
    }  # fmt: skip
    assert manifest["sources"]["stamps"]["cutouts"] == 1
    picture = cv2.imread(str(tmp_path / "cutouts/stamps/birds-crow.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (20, 20, 4)
    assert (picture == [0, 200, 0, 255]).all()


def test_emoji_of_the_named_code_points_are_taken(tmp_path):
    put_tgz(
        tmp_path / "packages",
        "them-emoji-2.0.1.tgz",
        {
            "package/package.json": b'{"version": "2.0.1"}',
            "package/assets/1f418.png": png(),
            "package/assets/1f43b-200d-2744.png": png(),
            "package/assets/1f600.png": png(),
        },
    )
    files = make_material(tmp_path, [EMOJI])["files"]
    assert files == {
        "cutouts/emoji/1f418-elephant.png": {
            "package": "@them/emoji", "version": "2.0.1", "licence": "MIT", "name": "elephant", "category": "animal"
        }
    }  # fmt: skip


@needs_dpkg
def test_views_of_models_are_rendered_once(tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match="views 0: at least 1"):
        make_material(tmp_path, [MODELS], views=0)
    monkeypatch.setattr(material_pictures, "RenderProcess", FakeRenderer)
    put_deb(tmp_path / "packages", "models", {f"{MODELS.folder}/Free.sh3f": pack_models()})
    files = make_material(tmp_path, [MODELS], views=3)["files"]
    assert list(files) == [f"cutouts/models/Free-002-chair@{view}.png" for view in (0, 2)]
    entry = files["cutouts/models/Free-002-chair@0.png"]
    assert {entry["name"], entry["category"], entry["creator"], entry["licence"]} == {
        "Armchair", "Bedroom", "Someone", "CC0-1.0"
    }  # fmt: skip


def test_the_licence_of_a_file_is_that_of_the_last_paragraph_that_names_it(tmp_path):
    content = tmp_path / WALLS.folder
    assert find_licence(WALLS, content, content / "brick.jpg") == "CC-BY-4.0"
    other = replace(WALLS, package="fences")
    paper = tmp_path / "usr/share/doc/fences/copyright"
    paper.parent.mkdir(parents=True)
    paper.write_text(
        "Format: one\n\nFiles: *\nLicense: GPL-3+\n\nFiles: debian/*\nLicense: MIT\n\n"
        "Files: data/old/*\n data/brick.jpg\n data/music/*.jpg\nCopyright: somebody\nLicense: CC0-1.0\n text\n"
    )
    licences = [find_licence(other, content, content / name) for name in ("brick.jpg", "old/a.jpg", "new.jpg")]
    assert licences == ["CC0-1.0", "CC0-1.0", "GPL-3+"]


@needs_dpkg
def test_another_run_adds_to_the_folder_and_removes_what_the_table_left_out(tmp_path):
    files = {f"{WALLS.folder}/{name}.jpg": jpg() for name in ("brick", "dog")}
    put_deb(tmp_path / "packages", "walls", files)
    put_deb(tmp_path / "packages", "stamps", {f"{STAMPS.folder}/crow.png": png()})
    make_material(tmp_path, [WALLS])
    wall = tmp_path / "grounds/walls/brick.jpg"
    assert cv2.imread(str(wall)).shape == (34, 1024, 3)
    wall.write_bytes(jpg((8, 8)))
    only_brick = Source("walls", "debian", "CC-BY-4.0", "grounds", "usr/share/walls", ["brick.jpg"])
    manifest = make_material(tmp_path, [only_brick, STAMPS])
    assert cv2.imread(str(wall)).shape == (8, 8, 3), "what is there is not made again"
    assert not wall.with_name("dog.jpg").exists()
    assert set(manifest["files"]) == {"grounds/walls/brick.jpg", "cutouts/stamps/crow.png"}
    material = load_material(tmp_path, side=32, outlines=0)
    assert len(material.cutouts) == 1


def test_a_missing_tool_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"apt-get is not installed; .*put stamps_\*.deb into"):
        fetch_package(STAMPS, tmp_path)
    with pytest.raises(InputError, match=r"npm is not installed; .*put them-emoji-\[0-9\]\*.tgz into"):
        fetch_package(EMOJI, tmp_path)


def test_what_a_registry_answers_reaches_the_user(tmp_path, monkeypatch, capsys):
    tool = tmp_path / "apt-get"
    tool.write_text("#!/bin/sh\necho 'Temporary failure resolving deb.debian.org' >&2; exit 100\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert main([str(tmp_path / "out"), "--only", "ukui-wallpapers"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: cannot fetch ukui-wallpapers (debian): Temporary failure resolving")
    assert "by hand" in message


def test_a_damaged_archive_is_refused(tmp_path):
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "them-emoji-2.0.1.tgz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"cannot extract .*them-emoji-2.0.1.tgz"):
        make_material(tmp_path, [EMOJI])
    assert not list((tmp_path / "packages").glob("*.content"))


def test_the_table_names_packages_whose_patterns_do_not_contradict():
    sources = load_sources()
    assert len({source.folder_name for source in sources}) == len(sources)
    for source in sources:
        assert source.licence
        assert source.makes in ("stamps", "emoji", "models", "grounds")
        assert not set(source.keep) & set(source.shows_objects), source.package
    emoji = next(source for source in sources if source.makes == "emoji")
    points = [point for ranges in emoji.code_points.values() for point in parse_ranges(ranges)]
    assert len(points) == len(set(points)), "every emoji has one category"
    assert not {0x1F600, 0x1F550, 0x27A1, 0x1F6AB} & set(points), "faces, clock faces, arrows and signs"


def test_patterns_keep_and_leave(tmp_path):
    for name in ("a/one.png", "a/cartoon/two.png", "three.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert choose_files(STAMPS, tmp_path) == [tmp_path / "a/one.png"]


def test_catalogues_are_read_in_the_order_of_their_numbers():
    with zipfile.ZipFile(io.BytesIO(pack_models())) as packed:
        models = read_catalogue(packed.read("PluginFurnitureCatalog.properties").decode())
    assert [(model.name, model.title) for model in models] == [("001-window", "Window"), ("002-chair", "Armchair")]
    assert models[0].rotation is None
    assert models[1].rotation == (1, 0, 0, 0, 0, 1, 0, -1, 0)


def test_transparent_pixels_leave_no_trace_when_a_cutout_shrinks():
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[:, 31:] = [200, 100, 50, 255]
    small = limit_side(picture, 16)
    edge = small[8, 7]
    assert 0 < edge[3] < 255
    np.testing.assert_allclose(edge[:3], [200, 100, 50], atol=3)


@pytest.mark.parametrize("inner", [(-1000, -1000), (19, 14)])
def test_pictures_without_an_outline_are_no_cutouts(tmp_path, inner):
    path = tmp_path / "picture.png"
    path.write_bytes(png(inner=inner))
    assert read_cutout(path) is None


def test_faces_without_an_area_are_left_out_of_a_model(tmp_path):
    model = tmp_path / "chair.obj"
    model.write_text("v 0 0 0\nf 1 2 3\nf 1 2\nf 1//1 2//2 3//3 4//4\n")
    mended = mend_model(model)
    assert mended != model
    assert mended.read_text() == "v 0 0 0\nf 1 2 3\nf 1//1 2//2 3//3 4//4\n"
    assert mend_model(mended) == mended


def test_a_view_is_cropped_and_its_colours_freed_of_alpha():
    pixels = np.zeros((100, 100, 4), np.uint8)
    pixels[21:81, 40:60] = [80, 40, 20, 255]
    pixels[30:40, 44:50] = [40, 20, 10, 128]  # half transparent: drawn colours are multiplied by alpha
    view = crop_view(pixels)
    assert view.shape == (30, 10, 4)
    np.testing.assert_allclose(view[7, 3, :3], [80, 40, 20], atol=2)
    assert crop_view(np.zeros((100, 100, 4), np.uint8)) is None


def test_viewpoints_spread_around_the_front():
    viewpoints = spread_viewpoints(np.random.default_rng(0), 6)
    azimuths = [viewpoint.azimuth for viewpoint in viewpoints]
    assert azimuths == sorted(azimuths)
    assert -FRONT_DEG <= azimuths[0] < -FRONT_DEG / 2
    assert FRONT_DEG / 2 < azimuths[-1] <= FRONT_DEG
    assert all(5 <= viewpoint.elevation <= 35 for viewpoint in viewpoints)
