"""What `objloc recurring` costs for a large fleet, and how well it finds things that come back.

    python bench/recurring.py             products of 10^7 links and their memory; planted recurrences, three seeds
    python bench/recurring.py --smoke     seconds; shows that everything runs

Products: the symmetric matrix of a random graph, float32 weights with 32-bit indices, times a float64 vector in one
process. Memory: what arrays hold beside the formulas, 2nd bytes of descriptors, 8 per stored link and 8 per row for
pointers, 8 per vector and object.

Planted recurrences: scenes with one object each, of which a few things stand in ten scenes each and all others in one;
true masks, means and deviations of the embedded backbone's keys. AUC: how often something that comes back is ranked
above something that does not; "size" ranks by the number of pixels.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse
from harness import machine, write_json
from sklearn.metrics import roc_auc_score

from objloc_ros.fleet.descriptors import DESCRIBERS, PARTS, Describe, DescribeTask, centre
from objloc_ros.fleet.neighbours import Nodes, Origins, find_groups, find_neighbours, pair_edges, symmetrise
from objloc_ros.fleet.objects import FleetImage, FleetObject
from objloc_ros.fleet.recurring import RecurringOptions, rank_objects
from objloc_ros.io.rle import encode
from objloc_ros.io.tables import markdown_table
from objloc_ros.ops.ranking import rank
from objloc_ros.scenes.compose import Bank, Camera, Scene, random_pasted, random_scene, render
from objloc_ros.types import Image

SIZE = (240, 320)
KINDS, EACH, UNIQUE = 3, 10, 60


@dataclass(frozen=True)
class ProductRow:
    """Cost of one size of graph.

    Args:
        links: Pairs of linked objects; the matrix stores each twice.
        objects: Number of objects.
        product_ms: Best time of a product.
        matrix_mb: Memory of the matrix.
        formula_mb: The same by the formula.
        q_s: Time of ranking by Q, 50 products at most.
        q_vectors: Most memory that the ranking took beside the matrix, in vectors of 8 bytes per object.
    """

    links: int
    objects: int
    product_ms: float
    matrix_mb: float
    formula_mb: float
    q_s: float
    q_vectors: float


@dataclass(frozen=True)
class PlantedRow:
    """How well planted recurrences of one seed are found.

    Args:
        seed: Of scenes and things.
        ours: AUC of the command's ranking: three eigenvectors of Q, descriptors `moments`.
        tokens: The same with descriptors `tokens`.
        q: With `moments`, of the papers' rankings: Q alone,
        lod: LOD,
        degree: and the sum of the links.
        size: Of the number of pixels.
        same_nearest: How often the nearest object of one that comes back is the same thing.
        largest_group: Objects in it.
    """

    seed: int
    ours: float
    tokens: float
    q: float
    lod: float
    degree: float
    size: float
    same_nearest: float
    largest_group: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    links, seeds, unique = ((1000, 10_000), [0], 6) if args.smoke else ((10**6, 10**7), args.seeds, UNIQUE)
    about = machine()
    print(about)
    products = [measure_product(count) for count in links]
    print(
        markdown_table(list(vars(products[0])), [[f"{value:,.6g}" for value in vars(row).values()] for row in products])
    )
    planted = [measure_planted(seed, unique) for seed in seeds]
    rows = [[f"{value:.3g}" for value in vars(row).values()] for row in planted]
    means = [f"{np.mean([vars(row)[name] for row in planted]):.3g}" for name in list(vars(planted[0]))[1:]]
    print(markdown_table(list(vars(planted[0])), [*rows, ["mean", *means]]))
    if args.json is not None:
        write_json(args.json, machine=about, products=products, planted=planted)


def measure_product(links: int, per_object: int = 32) -> ProductRow:
    """Time products with a random symmetric matrix."""
    objects = max(10, links // per_object * 2)
    rng = np.random.default_rng(links)
    columns = rng.integers(0, objects, links, dtype=np.int32)
    rows = rng.integers(0, objects, links, dtype=np.int32)
    one_way = scipy.sparse.coo_array((rng.random(links, np.float32), (rows, columns)), shape=(objects, objects))
    weights = symmetrise([one_way.tocsr()])
    vector = rng.random(objects)
    times = []
    for _ in range(5):
        started = time.perf_counter()
        weights @ vector
        times.append(time.perf_counter() - started)
    started = time.perf_counter()
    rank(weights, np.full(objects, 1), iterations=50)
    q_s = time.perf_counter() - started
    tracemalloc.start()
    rank(weights, np.full(objects, 1), iterations=2)
    q_vectors = tracemalloc.get_traced_memory()[1] / (8 * objects)
    tracemalloc.stop()
    formula = 8 * weights.nnz + 8 * objects
    best_ms = 1e3 * min(times)
    return ProductRow(weights.nnz // 2, objects, best_ms, weights.nbytes / 1e6, formula / 1e6, q_s, q_vectors)


def measure_planted(seed: int, unique: int = UNIQUE) -> PlantedRow:
    """Rank the objects of planted scenes."""
    scenes, kinds = plant_scenes(seed, unique=unique)
    nodes, tokens = (describe_scenes(scenes, describe) for describe in ("moments", "tokens"))
    options, recurs = RecurringOptions(), kinds >= 0
    edges = link(nodes, options)
    nearest = nodes.descriptors.astype(np.float32) @ nodes.descriptors.astype(np.float32).T
    np.fill_diagonal(nearest, -1)

    def auc(scores: np.ndarray) -> float:
        return float(roc_auc_score(recurs, scores))

    return PlantedRow(
        seed,
        *(auc(rank_objects(link(described, options), described, options).scores) for described in (nodes, tokens)),
        *(auc(rank(symmetrise(edges), nodes.counts, method=method).scores) for method in ("q", "lod", "degree")),
        auc(np.array([(identities > 0).sum() for _, identities in scenes])),
        float((kinds[nearest.argmax(axis=1)] == kinds)[recurs].mean()),
        int(np.bincount(find_groups(edges, options.group_links)).max()),
    )


def link(nodes: Nodes, options: RecurringOptions) -> list[scipy.sparse.csr_array]:
    """Link objects, each image compared with all others."""
    neighbours = find_neighbours(nodes.image_descriptors, len(nodes), forbidden=nodes.origins)
    return [pair_edges(nodes, neighbours, links=options.links, tau=options.tau)]


def plant_scenes(
    seed: int, *, kinds: int = KINDS, each: int = EACH, unique: int = UNIQUE
) -> tuple[list[tuple[Image, Image]], np.ndarray]:
    """Compose scenes with one object each.

    Returns:
        Pictures and identities, and the kind of each one's object, -1 for objects that do not come back.
    """
    rng = np.random.default_rng([seed, 14])
    bank = Bank(seed + 1000, backgrounds=kinds * each + unique, sprites=kinds + unique, side=SIZE[1])
    things = [replace(random_pasted(rng, bank, x=0, y=0, size=1), index=i) for i in range(kinds + unique)]
    which = np.array([kind for kind in range(kinds) for _ in range(each)] + list(range(kinds, kinds + unique)))
    which = which[rng.permutation(len(which))]
    scenes = []
    for number in which:
        scene = random_scene(rng, bank, aspect=SIZE[1] / SIZE[0], counts=(1.0,), sizes=(0.4, 0.65))
        place = scene.objects[0]
        thing = replace(things[number], x=place.x, y=place.y, size=place.size, angle=float(rng.normal(0, 0.1)))
        scenes.append(_render(rng, bank, replace(scene, objects=(thing,))))
    return scenes, np.where(which < kinds, which, -1)


def _render(rng: np.random.Generator, bank: Bank, scene: Scene) -> tuple[Image, Image]:
    return render(rng, bank, scene, SIZE, camera=Camera(strength=0.0, grey=0.0))


def describe_scenes(scenes: list[tuple[Image, Image]], describe: Describe = "moments") -> Nodes:
    """Describe the object of each scene by its true mask."""
    backbone = DescribeTask().load()
    vectors = []
    for picture, identities in scenes:
        whole = FleetObject(1, "object", (0.0, 0.0, 0.0, 0.0), 1.0, None, encode(identities > 0))
        image = FleetImage(0, 1, "", Path(), SIZE, "", "", None, (whole,))
        vectors.append(DESCRIBERS[describe](backbone, np.ascontiguousarray(picture), image))
    images, objects = np.stack(vectors, axis=1).astype(np.float16)
    count = len(scenes)
    origins = Origins(np.arange(count), np.full(count, -1), np.full(count, np.nan))
    boxes = np.zeros((count, 4), np.float32)
    parts = PARTS[describe]
    return Nodes(centre(objects, parts), boxes, np.ones(count, np.int64), centre(images, parts), origins)


if __name__ == "__main__":
    main()
