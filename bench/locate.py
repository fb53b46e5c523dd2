"""Objects in metres: rooms of known depth, spoilt as depth cameras do, and how well their objects are located.

    python bench/locate.py            20 rooms of 640x480; some minutes on one core
    python bench/locate.py --smoke    seconds; shows that everything runs

Each room has up to five cartons and drums on a floor before a wall; those of 600 visible pixels or more count. Regions
are the true masks, masks of whole 16-pixel patches, boxes, and what FOUND with the embedded backbone finds on the
rendered picture (its connected regions; one is an object's if their masks' IoU is 0.3 or more and no other's higher).

Position errors are of the box's centre: against the centre of the box around the points that the camera sees (true
depth, true mask, the solid's own axes), and against the whole solid's. The size error is the mean over length, width
and height, without sign. For the IoU sides below 5 cm count as 5 cm, as one visible face has no volume.

Four ways to tell an object from its background are compared, with the same fit of a box: `all` pixels of the region
with a depth, the `median` and three (normal) deviations by the MAD, the strongest `mode` of the depths' logarithms
down to the valleys beside it, and `ours` (`methods/location.py`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import machine, write_json

from objloc_ros.engine.pipeline import Pipeline, load_pipeline
from objloc_ros.io.tables import text_table
from objloc_ros.methods.location import LocationOptions, Locations, fit_box, locate, measured
from objloc_ros.metrics import Boxes3D, box_iou_3d
from objloc_ros.ops.point_clouds import Depth, deproject, pixel_rays, transform
from objloc_ros.ops.regions import BoolMap, components, extent, mask_iou
from objloc_ros.scenes.depth_faults import FAULTS, spoil
from objloc_ros.scenes.room import Room, View, default_camera, random_room, render_room

SEED, VISIBLE_PX, PATCH, FOUND_IOU, LEAST_SIDE_M = 7, 600, 16, 0.3, 0.05
OPTIONS = LocationOptions()
REGIONS = ("true masks", "patches", "boxes", "FOUND")

Way = Callable[[Depth, Sequence[BoolMap], Room], Locations]


@dataclass(frozen=True)
class Sight:
    """A room, its view, and for each kind of regions those of its objects, by the number of the solid."""

    room: Room
    view: View
    regions: dict[str, dict[int, BoolMap]]


def main() -> None:
    """Print the tables and, if asked to, write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="two rooms")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(machine())
    rooms = 2 if args.smoke else 20
    pipeline = load_pipeline(("found",), "tiny", "cpu")
    plain = list(look(pipeline, rooms, distorted=False))
    distorted = list(look(pipeline, rooms, distorted=True))
    tables = {}
    for regions in REGIONS:
        rows = {name: score(locate_ours, plain, regions, name) for name in FAULTS}
        rows["distortion"] = score(locate_ours, distorted, regions, "clean")
        print_rows(f"ours, {regions}", rows)
        tables[regions] = rows
    ways: dict[str, Way] = {
        "all": partial(locate_by, select_all),
        "median": partial(locate_by, select_band),
        "mode": partial(locate_by, select_mode),
        "ours": locate_ours,
    }
    compared = {}
    for name in ("clean", "all of these"):
        for regions in REGIONS[1:3]:
            rows = {way: score(ways[way], plain, regions, name) for way in ways}
            print_rows(f"{name}, {regions}", rows)
            compared[f"{name}, {regions}"] = rows
    costs = {
        f"{regions}, {name}": cost_ms(plain, regions, name)
        for regions in REGIONS[:3]
        for name in ("clean", "all of these")
    }
    for what, (cost, count) in costs.items():
        print(f"{what}: {cost:.1f} ms of one core per frame of {count:.1f} objects")
    if args.json:
        write_json(args.json, machine=machine(), ours=tables, compared=compared, costs_ms=costs)


def look(pipeline: Pipeline, rooms: int, *, distorted: bool) -> Iterator[Sight]:
    """Render rooms, and draw the regions of their objects."""
    rng = np.random.default_rng(SEED)
    for _ in range(rooms):
        room = random_room(rng, default_camera(distorted=distorted))
        view = render_room(rng, room)
        masks = {number: view.identities == number + 1 for number in range(len(room.solids))}
        masks = {number: mask for number, mask in masks.items() if np.count_nonzero(mask) >= VISIBLE_PX}
        regions = {
            "true masks": masks,
            "patches": {number: draw_patches(mask) for number, mask in masks.items()},
            "boxes": {number: draw_box(mask) for number, mask in masks.items()},
            "FOUND": match(components(pipeline.run(view.image)["found"].mask_u8() > 0).labels, masks),
        }
        yield Sight(room, view, regions)


def draw_patches(mask: BoolMap) -> BoolMap:
    """Patches that an object covers by a third or more, or that which it covers most."""
    height, width = mask.shape
    cover = mask.reshape(height // PATCH, PATCH, width // PATCH, PATCH).mean(axis=(1, 3))
    return np.kron(cover >= min(1 / 3, cover.max()), np.ones((PATCH, PATCH), np.bool_))


def draw_box(mask: BoolMap) -> BoolMap:
    """The filled box around a mask."""
    x1, y1, x2, y2 = extent(mask) or (0, 0, 0, 0)
    box = np.zeros_like(mask)
    box[y1:y2, x1:x2] = True
    return box


def match(labels: np.ndarray, masks: dict[int, BoolMap]) -> dict[int, BoolMap]:
    """The found region of each object that has one."""
    matched = {}
    for number, mask in masks.items():
        candidates = [labels == label for label in np.unique(labels[mask]) if label]
        best = max(candidates, key=partial(mask_iou, mask), default=None)
        if best is not None and mask_iou(mask, best) >= FOUND_IOU:
            matched[number] = best
    return matched


def locate_ours(depth: Depth, regions: Sequence[BoolMap], room: Room) -> Locations:
    """The product."""
    return locate(depth, regions, room.camera, OPTIONS, rotation=room.rotation, translation=room.translation)


def locate_by(
    select: Callable[[Depth, BoolMap], BoolMap], depth: Depth, regions: Sequence[BoolMap], room: Room
) -> Locations:
    """The product's fit of a box to points that something else selects."""
    known = measured(depth, pixel_rays(room.camera), OPTIONS)
    clouds = {}
    for number, region in enumerate(regions):
        points = deproject(depth, room.camera, select(depth, region & known))
        if len(points) >= OPTIONS.min_points:
            clouds[number] = transform(points, room.rotation, room.translation)
    boxes = [fit_box(cloud, np.eye(3)) for cloud in clouds.values()]
    columns = [np.array(column) for column in zip(*boxes, strict=True)] or [np.zeros(0)] * 3
    return Locations(tuple(clouds), columns[0], columns[1], columns[2], tuple(clouds.values()), ())


def select_all(depth: Depth, usable: BoolMap) -> BoolMap:
    """Every pixel with a depth."""
    return usable


def select_band(depth: Depth, usable: BoolMap) -> BoolMap:
    """Three normal deviations around the median, by the median absolute deviation, and 1 % of the depth at least."""
    if not usable.any():
        return usable
    middle = np.median(depth[usable])
    spread = 1.4826 * np.median(np.abs(depth[usable] - middle))
    return usable & (np.abs(depth - middle) <= max(3 * spread, 0.01 * middle))


def select_mode(depth: Depth, usable: BoolMap) -> BoolMap:
    """The strongest mode of the histogram of log depth, in steps of 2 %, down to a tenth of its height."""
    bins = np.zeros(depth.shape, np.intp)
    bins[usable] = 1 + (np.log(depth[usable] / OPTIONS.min_range) / 0.02).astype(np.intp)
    counts = np.bincount(bins[usable], minlength=2)
    counts = np.convolve(counts, (0.25, 0.5, 0.25), mode="same")
    low = high = int(counts.argmax())
    while low > 1 and counts[low - 1] > 0.1 * counts.max():
        low -= 1
    while high + 1 < len(counts) and counts[high + 1] > 0.1 * counts.max():
        high += 1
    return usable & (bins >= low) & (bins <= high)


def score(way: Way, sights: Sequence[Sight], regions: str, fault: str) -> dict[str, float]:
    """Locate the objects of all rooms, and compare them with the truth."""
    rng = np.random.default_rng(SEED + 1)
    seen, whole, sizes, ious, wholes, wanted, objects = [], [], [], [], [], 0, 0
    for sight in sights:
        room, view = sight.room, sight.view
        depth = spoil(rng, view.depth_m, fault)
        numbers = list(sight.regions[regions])
        found = way(depth, [sight.regions[regions][number] for number in numbers], room)
        wanted += len(numbers)
        objects += len(sight.regions["true masks"])
        for k, index in enumerate(found.indices):
            solid = room.solids[numbers[index]]
            points = deproject(view.depth_m, room.camera, view.identities == numbers[index] + 1)
            own = transform(points, room.rotation, room.translation).astype(np.float64) @ solid.rotation
            low, high = own.min(0), own.max(0)
            box = Boxes3D(found.centers[k : k + 1], found.sizes[k : k + 1], found.rotations[k : k + 1])
            truth = Boxes3D((solid.rotation @ (low + high) / 2)[None], (high - low)[None], solid.rotation[None])
            full = Boxes3D(np.array([solid.center]), np.array([solid.size]), solid.rotation[None])
            seen.append(np.linalg.norm(box.centers - truth.centers))
            whole.append(np.linalg.norm(box.centers - full.centers))
            sizes.append(size_error(box, truth))
            ious.append(iou(box, truth))
            wholes.append(iou(box, full))
    return {
        "regions": wanted / objects,
        "located": len(seen) / max(wanted, 1),
        "error [cm]": 100 * float(np.median(seen)),
        "90 % below": 100 * float(np.quantile(seen, 0.9)),
        "to the whole": 100 * float(np.median(whole)),
        "size [cm]": 100 * float(np.median(sizes)),
        "IoU": float(np.median(ious)),
        "IoU >= 0.5": float(np.mean(np.array(ious) >= 0.5)),
        "IoU whole": float(np.median(wholes)),
    }


def size_error(box: Boxes3D, truth: Boxes3D) -> float:
    """Mean difference of the sides without sign; the box's sides go with the true axes that they are nearest to."""
    crossed = abs(box.rotations[0][:, 0] @ truth.rotations[0][:, 0]) < np.sqrt(0.5)
    order = [1, 0, 2] if crossed else [0, 1, 2]
    return float(np.abs(box.sizes[0][order] - truth.sizes[0]).mean())


def iou(box: Boxes3D, truth: Boxes3D) -> float:
    """IoU of two boxes with sides of 5 cm at least."""
    thick = (Boxes3D(b.centers, np.maximum(b.sizes, LEAST_SIDE_M), b.rotations) for b in (box, truth))
    return float(box_iou_3d(*thick)[0, 0])


def cost_ms(sights: Sequence[Sight], regions: str, fault: str) -> tuple[float, float]:
    """Processor milliseconds of a frame, the median over the rooms of the best of three, and objects per frame."""
    rng = np.random.default_rng(SEED + 1)
    costs, objects = [], 0
    for sight in sights:
        depth, masks = spoil(rng, sight.view.depth_m, fault), list(sight.regions[regions].values())
        objects += len(masks)
        rounds = []
        for _ in range(3):
            start = time.process_time()
            locate_ours(depth, masks, sight.room)
            rounds.append(time.process_time() - start)
        costs.append(min(rounds))
    return 1e3 * float(np.median(costs)), objects / len(sights)


def print_rows(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print scores by their names."""
    columns = list(next(iter(rows.values())))
    cells = [
        [
            name,
            *(
                f"{row[c]:.1f}" if "cm" in c or c in ("90 % below", "to the whole") else f"{row[c]:.2f}"
                for c in columns
            ),
        ]
        for name, row in rows.items()
    ]
    print(f"\n{title}", text_table([["", *columns], *cells], left=1), sep="\n", flush=True)


if __name__ == "__main__":
    main()
