"""Links between objects that look alike: neighbours of images, then of the objects in them, in shards of images.

Each image is compared with all others by one descriptor, each object with those of its image's neighbours, and keeps
its best links (Vo et al., "Large-Scale Unsupervised Object Discovery", NeurIPS 2021, link all regions of neighbours).
What a shard computes does not depend on where shards are cut: blocks of products are always the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from objloc_ros.errors import ParameterError
from objloc_ros.fleet.descriptors import check_finite
from objloc_ros.ops.boxes import iou
from objloc_ros.ops.ranking import RowBlocks

Across = Literal["recording", "camera", "none"]
"""What two objects must not share to be linked: the recording, or the place before a camera; the camera; nothing."""

ACROSS: tuple[Across, ...] = ("recording", "camera", "none")

BLOCK_ROWS = 512
"""Images that are compared with all others at a time; shards begin at multiples of it."""

BLOCK_COLUMNS = 16384

FIXED_PART_IOU = 0.8
"""Objects of one camera whose boxes overlap so are taken for a part of the robot, such as a bonnet or a gripper."""

MAX_BLOCK_EDGES = 1 << 30
"""Edges of one block of the matrix: their numbers fit 32 bits."""


@dataclass(frozen=True)
class Origins:
    """Where images come from, and which of them are not compared.

    Args:
        recordings: Number of the recording, int [I].
        cameras: Number of the camera, int [I]; -1 for unknown ones.
        stamps_s: Time on the recording's clock in seconds, float64 [I]; NaN for unknown ones.
        across: What two images must not share.
        apart_s: Images of one recording are compared if they are farther apart than this, seconds; infinite for never.

    Raises:
        ParameterError: A value is out of range.
    """

    recordings: npt.NDArray[np.integer[Any]]
    cameras: npt.NDArray[np.integer[Any]]
    stamps_s: npt.NDArray[np.float64]
    across: Across = "recording"
    apart_s: float = math.inf

    def __post_init__(self) -> None:
        if self.across not in ACROSS:
            raise ParameterError(f"across must be one of {', '.join(ACROSS)}; got {self.across!r}")
        if not self.apart_s >= 0:
            raise ParameterError(f"apart must be at least 0 s, got {self.apart_s}")

    def __len__(self) -> int:
        return len(self.recordings)

    def forbid(self, rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
        """Tell which pairs of images are not compared: bool [rows, columns]; an image with itself never is."""
        indices = np.arange(len(self))
        forbidden = indices[rows, None] == indices[None, columns]
        if self.across != "none":
            near = ~(np.abs(self.stamps_s[rows, None] - self.stamps_s[None, columns]) > self.apart_s)  # NaN is near
            forbidden |= (self.recordings[rows, None] == self.recordings[None, columns]) & near
        if self.across == "camera":
            known = self.cameras[rows, None] >= 0
            forbidden |= (self.cameras[rows, None] == self.cameras[None, columns]) & known
        return forbidden

    def has_pairs(self) -> bool:
        """Whether any two images are compared at all."""
        total = len(self)
        blocks = (slice(start, min(start + BLOCK_ROWS, total)) for start in range(0, total, BLOCK_ROWS))
        return any(not self.forbid(block, slice(0, total)).all() for block in blocks)


def find_neighbours(
    descriptors: npt.NDArray[np.floating[Any]], count: int, *, forbidden: Origins, rows: range | None = None
) -> npt.NDArray[np.int32]:
    """Find the images that are most alike, by the product of their descriptors in float32.

    Args:
        descriptors: [I, d] of length 1; zeros for images without.
        count: Greatest number of neighbours of each.
        forbidden: Pairs that are left out.
        rows: Images to find neighbours of, from a multiple of `BLOCK_ROWS` on; None for all.

    Returns:
        int32 [rows, count], nearest first, of equally near ones the first; -1 where there are fewer.

    Raises:
        InputError: A descriptor is not finite.
        ParameterError: The count is below 1, or rows begin between two blocks.
    """
    rows = range(len(descriptors)) if rows is None else rows
    if count < 1:
        raise ParameterError(f"an image needs at least 1 neighbour, got {count}")
    if rows.start % BLOCK_ROWS:
        raise ParameterError(f"rows must begin at a multiple of {BLOCK_ROWS}, got {rows.start}")
    check_finite(descriptors)
    blocks = [slice(start, min(start + BLOCK_ROWS, rows.stop)) for start in range(rows.start, rows.stop, BLOCK_ROWS)]
    found = [_compare_block(descriptors, block, count, forbidden) for block in blocks]
    return np.concatenate(found) if found else np.zeros((0, count), np.int32)


def _compare_block(
    descriptors: npt.NDArray[np.floating[Any]], rows: slice, count: int, forbidden: Origins
) -> npt.NDArray[np.int32]:
    total = len(descriptors)
    # All rows of the block, also where a shard ends before: the product's rounding may depend on its shape.
    whole = slice(rows.start, min(rows.start + BLOCK_ROWS, total))
    height = rows.stop - rows.start
    own = descriptors[whole].astype(np.float32)
    values = np.full((height, count), -np.inf, np.float32)
    ids: npt.NDArray[np.int64] = np.full((height, count), -1)
    for start in range(0, total, BLOCK_COLUMNS):
        columns = slice(start, min(start + BLOCK_COLUMNS, total))
        product = (own @ descriptors[columns].astype(np.float32).T)[:height]
        product[forbidden.forbid(rows, columns)] = -np.inf
        candidates = np.broadcast_to(np.arange(columns.start, columns.stop), product.shape)
        values, ids = keep_best(np.hstack([values, product]), np.hstack([ids, candidates]), count)
    order = np.argsort(-values, axis=1, kind="stable")
    found = np.where(np.isneginf(values), -1, ids)
    return np.take_along_axis(found, order, axis=1).astype(np.int32)


def keep_best(
    values: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], count: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Keep the greatest entries of each row, of equal ones the first.

    Args:
        values: [rows, m] with m >= count.
        ids: int64 [rows, m], what the entries stand for.
        count: How many to keep.

    Returns:
        Values and ids [rows, count], in their order.
    """
    threshold = -np.partition(-values, count - 1, axis=1)[:, count - 1 : count]
    above, tied = values > threshold, values == threshold
    room = count - above.sum(axis=1, keepdims=True)
    kept = above | (tied & (tied.cumsum(axis=1) <= room))
    return values[kept].reshape(-1, count), ids[kept].reshape(-1, count)


@dataclass(frozen=True)
class Nodes:
    """What is linked and ranked, image by image: objects, or tracks that stand for all their objects.

    Args:
        descriptors: float16 [n, d] of length 1, or zeros.
        boxes: float32 [n, 4] as (x1, y1, x2, y2), in pixels of the image.
        counts: int64 [I], how many of them each image has.
        image_descriptors: float16 [I, d].
        origins: Of the images.
    """

    descriptors: npt.NDArray[np.float16]
    boxes: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    image_descriptors: npt.NDArray[np.float16]
    origins: Origins

    def __len__(self) -> int:
        return len(self.descriptors)


def pair_edges(
    nodes: Nodes, neighbours: npt.NDArray[np.int32], *, links: int, tau: float, rows: range | None = None
) -> scipy.sparse.csr_array:
    """Link each object to those of its image's neighbours that are most like it.

    Objects of one camera at one place of the picture are parts of the robot, and not linked unless anything may be.

    Args:
        nodes: All objects.
        neighbours: int32 [rows, a], of the images in `rows`, from `find_neighbours`.
        links: Most links that an object keeps; of equal ones the first.
        tau: Cosine from which on a pair is linked; a link's weight is what the cosine exceeds it by.
        rows: Images whose objects are linked; None for all.

    Returns:
        float32 [objects of the images, n]: not symmetric yet.

    Raises:
        InputError: A descriptor is not finite.
        ParameterError: `links` is below 1 or `tau` is not a cosine.
    """
    if links < 1:
        raise ParameterError(f"an object needs at least 1 link, got {links}")
    if not -1 <= tau < 1:
        raise ParameterError(f"tau must lie between -1 and 1, 1 excluded, got {tau}")
    rows = range(len(nodes.counts)) if rows is None else rows
    stops = np.cumsum(nodes.counts)
    starts = stops - nodes.counts
    check_finite(nodes.descriptors)
    columns, weights, lengths = [], [], []
    for image, near in zip(rows, neighbours, strict=True):
        own = np.arange(starts[image], stops[image])
        candidates = _list_candidates(near[near >= 0], starts, nodes.counts)
        cosines = _compare_objects(nodes, own, candidates, image, stops)
        values, ids = keep_best(*_pad(cosines, candidates, links), links)
        excess = values - np.float32(tau)
        linked = (ids >= 0) & (excess > 0)
        columns.append(ids[linked])
        weights.append(excess[linked])
        lengths.append(linked.sum(axis=1))
    data = np.concatenate(weights) if weights else np.zeros(0, np.float32)
    indices = np.concatenate(columns).astype(np.int32) if columns else np.zeros(0, np.int32)
    pointers = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]))
    return scipy.sparse.csr_array((data, indices, pointers), shape=(len(pointers) - 1, len(nodes)))


def _list_candidates(
    images: npt.NDArray[np.int32], starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """List the objects of some images, in their order."""
    images = np.sort(images)
    lengths = counts[images]
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts[images] - before, lengths) + np.arange(lengths.sum())


def _compare_objects(
    nodes: Nodes, own: npt.NDArray[np.int64], others: npt.NDArray[np.int64], image: int, stops: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Compute cosines [own, others]; -inf where two objects are not compared."""
    cosines = nodes.descriptors[own].astype(np.float32) @ nodes.descriptors[others].astype(np.float32).T
    origins = nodes.origins
    if origins.across != "none" and origins.cameras[image] >= 0:
        images = np.searchsorted(stops, others, side="right")
        same_camera = origins.cameras[images] == origins.cameras[image]
        overlaps = iou(nodes.boxes[own], nodes.boxes[others])
        cosines[same_camera & (overlaps >= FIXED_PART_IOU)] = -np.inf
    return cosines


def _pad(
    values: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], count: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Pad rows to at least `count` entries."""
    missing = max(0, count - values.shape[1])
    padded = np.pad(values, ((0, 0), (0, missing)), constant_values=-np.inf)
    return padded, np.broadcast_to(np.pad(ids, (0, missing), constant_values=-1), padded.shape)


def symmetrise(blocks: Sequence[scipy.sparse.csr_array], *, edges: int = MAX_BLOCK_EDGES) -> RowBlocks:
    """Make links mutual: the weight of a pair is the greater one of its two directions.

    Args:
        blocks: CSR matrices [rows, n] that follow one another, from `pair_edges`.
        edges: Most links of the given ones in one block of the result, a row's links apart.

    Returns:
        The symmetric matrix. How the rows were given does not change a bit of it.
    """
    merged = _merge_blocks(blocks, edges)
    bounds = np.cumsum([0, *(block.shape[0] for block in merged)])
    whole = []
    for number, block in enumerate(merged):
        own = slice(int(bounds[number]), int(bounds[number + 1]))
        turned = scipy.sparse.hstack([other[:, own].T.tocsr() for other in merged], format="csr")
        mutual = scipy.sparse.csr_array(block.maximum(turned))
        mutual.sort_indices()
        whole.append(mutual)
    return RowBlocks(whole)


def find_groups(blocks: Sequence[scipy.sparse.csr_array], links: int) -> npt.NDArray[np.int64]:
    """Find the groups of objects that are joined by pairs which have chosen each other.

    Args:
        blocks: CSR matrices [rows, n] that follow one another, from `pair_edges`.
        links: How many of an object's links count, the strongest ones; with many, everything is one group.

    Returns:
        Group of each object, int64 [n], in the order of their first objects; an object alone is a group of its own.
    """
    strongest = scipy.sparse.vstack([_keep_strongest(block, links) for block in blocks], format="csr")
    _, labels = connected_components(strongest.minimum(strongest.T.tocsr()), directed=False)
    _, first, groups = np.unique(labels, return_index=True, return_inverse=True)
    order: npt.NDArray[np.int64] = np.argsort(np.argsort(first))[groups].astype(np.int64)
    return order


def _keep_strongest(edges: scipy.sparse.csr_array, links: int) -> scipy.sparse.csr_array:
    """Keep the greatest weights of each row, of equal ones the first."""
    lengths = np.diff(edges.indptr)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((edges.indices, -edges.data, rows))
    place = np.arange(len(order)) - np.repeat(edges.indptr[:-1], lengths)
    kept = order[place < links]
    parts = (edges.data[kept], (rows[kept], edges.indices[kept]))
    return scipy.sparse.coo_array(parts, shape=edges.shape).tocsr()


def _merge_blocks(blocks: Sequence[scipy.sparse.csr_array], edges: int) -> list[scipy.sparse.csr_array]:
    """Join consecutive blocks as long as they have at most so many links together."""
    merged: list[list[scipy.sparse.csr_array]] = []
    total = 0
    for block in blocks:
        if not merged or total + block.nnz > edges:
            merged.append([])
            total = 0
        merged[-1].append(block)
        total += block.nnz
    return [scipy.sparse.csr_array(scipy.sparse.vstack(parts, format="csr")) for parts in merged]
