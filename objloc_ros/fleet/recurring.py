"""What comes back in a fleet's recordings: objects are linked, ranked by their links, and grouped.

Tracks count as one object each, copies of an image not at all. The links are made in shards (`neighbours.py`), the
ranking in one process: its vectors have 8 bytes per object, and the matrix 8 per link.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.sparse

from objloc_ros.errors import InputError
from objloc_ros.fleet.descriptors import Descriptors, centre
from objloc_ros.fleet.neighbours import (
    ACROSS,
    BLOCK_ROWS,
    Across,
    Nodes,
    Origins,
    find_groups,
    find_neighbours,
    pair_edges,
    symmetrise,
)
from objloc_ros.fleet.objects import Fleet
from objloc_ros.io.files import write_atomically
from objloc_ros.jobs.shards import Outcome, Shard
from objloc_ros.ops.ranking import RANK_METHODS, Ranking, RankMethod, rank, rank_by_patterns
from objloc_ros.options import Options, option

SHARD_ROWS = 8 * BLOCK_ROWS
"""Images per shard."""


@dataclass(frozen=True)
class RecurringOptions(Options):
    """How objects are linked and ranked."""

    method: RankMethod = option(
        "q",
        "Ranking: by the first eigenvectors of the links (q), their sum (degree), a random walk, or LOD.",
        choices=RANK_METHODS,
    )
    vectors: int = option(
        3,
        "Eigenvectors of q: each finds another kind of objects that belong together; 1 is the ranking of the paper.",
        low=1,
        high=100,
    )
    links: int = option(5, "Links that an object keeps, those to the most similar objects.", low=1, high=1000)
    tau: float = option(0.5, "Cosine from which on two objects are linked.", low=-1, high=1)
    near: int = option(100, "Images, the most similar ones, with whose objects those of an image are compared.", low=1)
    across: Across = option(
        "recording",
        "What two linked objects must not share: the recording or, before one camera, the place in the picture, as "
        "parts of the robot do; the camera; or only the image (none).",
        choices=ACROSS,
    )
    apart: float | None = option(
        None,
        "Objects of one recording are linked, too, if they were seen more than so many seconds apart.",
        kind=float,
        low=0,
        unset="never",
    )
    group_links: int = option(
        3, "An object is grouped with those that are among its so many most similar ones, and it among theirs.", low=1
    )


@dataclass(frozen=True)
class FleetNodes:
    """The objects of a fleet as they are linked.

    Args:
        nodes: One for each object or track that has a descriptor, image by image.
        objects: int64 [n], the object that stands for each: of a track, the one of the highest score.
        of_objects: int64 [objects of the fleet], the node of each object, -1 for those left out.
        images: int64 [I], the fleet's images that nodes are in.
        copies: Number of images left out because another has the same content.
    """

    nodes: Nodes
    objects: npt.NDArray[np.int64]
    of_objects: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    copies: int


def make_nodes(fleet: Fleet, described: Descriptors, options: RecurringOptions, *, parts: int = 1) -> FleetNodes:
    """Choose what is linked.

    Args:
        fleet: The objects.
        described: Their descriptors.
        options: How they will be linked.
        parts: Of how many vectors a descriptor is made.

    Raises:
        InputError: There are objects in fewer than two images, or no two images may be compared.
    """
    first = find_first_copies(described.digests)
    is_copy = first != np.arange(len(first))
    kept = described.usable & ~is_copy[fleet.image_numbers]
    owners = _number_tracks(fleet, kept)
    scores = np.array([fleet_object.score for fleet_object in fleet.objects])
    order = np.lexsort((np.arange(len(owners)), -scores, owners))
    order = order[owners[order] >= 0]
    best = order[np.unique(owners[order], return_index=True)[1]]  # of each owner the highest score
    rows = np.argsort(best, kind="stable")  # image by image, as the fleet's objects are
    objects = best[rows]
    of_objects = np.full(len(owners), -1)
    place = np.empty_like(rows)
    place[rows] = np.arange(len(rows))
    of_objects[owners >= 0] = place[owners[owners >= 0]]
    images, counts = np.unique(fleet.image_numbers[objects], return_counts=True)
    if len(images) < 2:
        raise InputError(
            f"there are usable objects in {len(images)} of {len(fleet.images)} images: nothing can come back in less "
            "than two"
        )
    nodes = Nodes(
        descriptors=centre(_average(described.objects, of_objects, len(objects)), parts),
        boxes=np.array([fleet.objects[number].box for number in objects], np.float32).reshape(-1, 4),
        counts=counts.astype(np.int64),
        image_descriptors=centre(described.images[images], parts),
        origins=_collect_origins(fleet, images, options),
    )
    return FleetNodes(nodes, objects, of_objects, images, int(is_copy.sum()))


def find_first_copies(digests: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
    """Find the first image of the same content for each, int64 [I]; those without a digest are their own."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    found: npt.NDArray[np.int64] = np.where(digests == b"", np.arange(len(digests)), first[inverse])
    return found


def _number_tracks(fleet: Fleet, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Number tracks and single objects from 0 on, int64 for each object; -1 for those left out."""
    known: dict[tuple[int, int | None, int | None], int] = {}
    numbers = np.full(len(kept), -1)
    place = 0
    for image in fleet.images:
        for fleet_object in image.objects:
            if kept[place]:
                single = place if fleet_object.track is None else None
                numbers[place] = known.setdefault((image.document, fleet_object.track, single), len(known))
            place += 1
    return numbers


def _average(descriptors: npt.NDArray[np.float16], nodes: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float16]:
    """Average the descriptors of each node's objects: float16 [count, d] of length 1."""
    used = nodes >= 0
    if used.sum() == count:  # without tracks nothing is to be averaged, and memory does not grow
        own = np.empty((count, descriptors.shape[1]), np.float16)
        own[nodes[used]] = descriptors[used]
        return own
    sums: npt.NDArray[np.float32] = np.zeros((count, descriptors.shape[1]), np.float32)
    np.add.at(sums, nodes[used], descriptors[used])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float16)


def _collect_origins(fleet: Fleet, images: npt.NDArray[np.int64], options: RecurringOptions) -> Origins:
    recordings: dict[str, int] = {}
    cameras: dict[str, int] = {"": -1}
    chosen = [fleet.images[number] for number in images]
    origins = Origins(
        recordings=np.array([recordings.setdefault(image.recording, len(recordings)) for image in chosen]),
        cameras=np.array([cameras.setdefault(image.camera, len(cameras) - 1) for image in chosen]),
        stamps_s=np.array([math.nan if image.stamp_ns is None else image.stamp_ns * 1e-9 for image in chosen]),
        across=options.across,
        apart_s=math.inf if options.apart is None else options.apart,
    )
    if origins.has_pairs():
        return origins
    if options.across == "camera" and chosen[0].camera and len(cameras) == 2:  # the unknown one and another
        raise InputError(f"all objects are of one camera, {chosen[0].camera}: link them by --across recording")
    raise InputError(
        f"no two images may be compared: {len(chosen)} with objects are of {len(recordings)} recordings, such as "
        f"{chosen[0].recording}; give other recordings, or link within one by --apart SECONDS or --across none"
    )


@dataclass(frozen=True)
class LinkTask:
    """Links the objects of some images: the `ShardTask` of a range of images.

    Args:
        folder: Of the nodes, see `write_nodes`; every machine must see it.
        options: How to link.
    """

    folder: Path
    options: RecurringOptions

    def load(self) -> Nodes:
        """Read the nodes; descriptors stay on disk until they are needed, once for all processes of a machine."""
        arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in NODE_ARRAYS}
        origins = {name: np.array(arrays.pop(name)) for name in ORIGIN_ARRAYS}
        apart_s = math.inf if self.options.apart is None else self.options.apart
        return Nodes(**arrays, origins=Origins(**origins, across=self.options.across, apart_s=apart_s))

    def run(self, nodes: Nodes, images: tuple[int, int], target: Path) -> None:
        """Link the objects of the images from the first to before the second."""
        rows = range(*images)
        count = min(self.options.near, len(nodes.counts))
        neighbours = find_neighbours(nodes.image_descriptors, count, forbidden=nodes.origins, rows=rows)
        edges = pair_edges(nodes, neighbours, links=self.options.links, tau=self.options.tau, rows=rows)
        with target.open("wb") as file:
            np.savez(file, data=edges.data, indices=edges.indices, indptr=edges.indptr, columns=edges.shape[1])


NODE_ARRAYS = ("descriptors", "boxes", "counts", "image_descriptors", "recordings", "cameras", "stamps_s")
ORIGIN_ARRAYS = ("recordings", "cameras", "stamps_s")


def write_nodes(nodes: Nodes, folder: Path) -> None:
    """Write what shards read: an .npy file per array."""
    with write_atomically(folder) as scratch:
        scratch.mkdir()
        for name in NODE_ARRAYS:
            np.save(scratch / f"{name}.npy", getattr(nodes.origins if name in ORIGIN_ARRAYS else nodes, name))


def link_objects(
    nodes: Nodes,
    options: RecurringOptions,
    folder: Path,
    engine: Callable[..., Outcome],
    *,
    rows: int = SHARD_ROWS,
    on_done: Callable[[Shard], None] = lambda shard: None,
) -> list[scipy.sparse.csr_array]:
    """Link all objects, here or on a cluster; shards that an earlier run of the same options has left are read.

    Args:
        nodes: What to link.
        options: How.
        folder: Below it each choice of nodes and options has a folder of its own.
        engine: `run_here` or its counterpart on a cluster.
        rows: Images per shard, a multiple of `BLOCK_ROWS`; results do not depend on it.
        on_done: Called after each shard that was done now.

    Returns:
        CSR matrices float32 [rows, n] that follow one another.

    Raises:
        InputError: A shard failed every time.
    """
    own = folder.resolve() / _hash_nodes(nodes, options)
    if not (own / "nodes").exists():
        write_nodes(nodes, own / "nodes")
    total = len(nodes.counts)
    bounds = [(start, min(start + rows, total)) for start in range(0, total, rows)]
    shards = [Shard(f"{start:09d}-{stop:09d}.npz", (start, stop)) for start, stop in bounds]
    outcome = engine(shards, LinkTask(own / "nodes", options), own / "edges", on_done=on_done)
    for name, reason in outcome.failed.items():
        raise InputError(f"links {name} could not be made: {reason}")
    return [_read_edges(own / "edges" / shard.name) for shard in shards]


def _read_edges(path: Path) -> scipy.sparse.csr_array:
    try:
        with np.load(path) as arrays:
            parts = (arrays["data"], arrays["indices"], arrays["indptr"])
            return scipy.sparse.csr_array(parts, shape=(len(parts[2]) - 1, int(arrays["columns"])))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read {path}: {error}; remove it and go on with the same command") from error


def _hash_nodes(nodes: Nodes, options: RecurringOptions) -> str:
    """Hash what links depend on."""
    about = {name: getattr(options, name) for name in ("links", "tau", "near", "across", "apart")}
    digest = hashlib.sha256(json.dumps(about).encode())
    for name in NODE_ARRAYS:
        array = getattr(nodes.origins if name in ORIGIN_ARRAYS else nodes, name)
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Recurring:
    """The ranking of a fleet's objects.

    Args:
        scores: float64 [n], one for each node; higher for what comes back more.
        ranks: int64 [n], from 1 on; of equal scores the earlier object comes first.
        groups: int64 [n], from 1 on in the order of their best objects; 0 for objects alone.
        edges: Number of links.
        ranking: How the ranking ended.
    """

    scores: npt.NDArray[np.float64]
    ranks: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    edges: int
    ranking: Ranking


def rank_objects(edges: list[scipy.sparse.csr_array], nodes: Nodes, options: RecurringOptions) -> Recurring:
    """Rank the objects by their links and group those that have chosen each other.

    Args:
        edges: From `link_objects`.
        nodes: What was linked.
        options: How to rank.
    """
    weights = symmetrise(edges)
    several = options.method == "q" and options.vectors > 1
    ranking = (
        rank_by_patterns(weights, options.vectors) if several else rank(weights, nodes.counts, method=options.method)
    )
    scores = np.abs(ranking.scores)
    # What differs by rounding only is equal, and comes in the order of the objects, on every processor.
    order = np.argsort(-np.round(scores / max(scores.max(initial=0.0), np.finfo(float).tiny), 9), kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    return Recurring(
        scores, ranks, number_groups(find_groups(edges, options.group_links), ranks), weights.nnz // 2, ranking
    )


def number_groups(labels: npt.NDArray[np.int64], ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number groups of two or more from 1 on in the order of their best ranks; objects alone get 0: int64 [n]."""
    sizes = np.bincount(labels, minlength=1)
    best = np.full(len(sizes), np.iinfo(np.int64).max)
    np.minimum.at(best, labels, ranks)
    best[sizes < 2] = np.iinfo(np.int64).max
    order = np.argsort(best, kind="stable")
    numbers = np.zeros(len(sizes), np.int64)
    several = int((sizes > 1).sum())
    numbers[order[:several]] = np.arange(1, several + 1)
    return numbers[labels]
