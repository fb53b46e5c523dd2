"""Clusters of found objects by what they look like (LOST, Siméoni et al., BMVC 2021, section 4.4).

The authors start k-means from centres drawn from one Gaussian of all descriptors, which leaves clusters empty. Here it
starts by k-means++ (Arthur and Vassilvitskii, SODA 2007), ten times, and the best result counts.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError, ParameterError

RESTARTS = 10

MAX_STEPS = 100
"""Greatest number of steps of k-means after each start."""

MIN_NORM = 1e-12
"""Rows of a smaller norm are taken for zero and stay as they are."""


def cluster_objects(features: npt.NDArray[np.floating], k: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Cluster objects by their descriptors.

    Args:
        features: [n, d], a descriptor for each object.
        k: Number of clusters, at most n.
        seed: Of the starts.

    Returns:
        The cluster of each object, int64 [n] in 0 to k - 1: the largest cluster is 0; of equal ones the first is that
        of the earlier object. Where fewer than k descriptors differ, the last clusters are empty.

    Raises:
        InputError: A descriptor is not finite.
        ParameterError: There are fewer objects than clusters, or no cluster.
    """
    count = len(features)
    if not 1 <= k <= count:
        raise ParameterError(f"k must be at least 1 and at most the number of objects, {count}; got {k}")
    rows = whiten(features)
    labels = _run_k_means(rows, k, seed)
    sizes = np.bincount(labels, minlength=k)
    first = np.full(k, count)
    np.minimum.at(first, labels, np.arange(count))
    order = np.lexsort((first, -sizes))
    return np.argsort(order)[labels].astype(np.int64)


def whiten(features: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Divide each dimension by its standard deviation, or by 1 where all are equal, and bring each row to length 1.

    Args:
        features: [n, d].

    Returns:
        float64 [n, d].

    Raises:
        InputError: A descriptor is not finite.
    """
    rows = np.asarray(features, np.float64)
    broken = np.flatnonzero(~np.isfinite(rows).all(1))
    if broken.size:
        raise InputError(f"descriptor {broken[0]} of {len(rows)} is not finite")
    spread = rows.std(0)
    rows = rows / np.where(spread > 0, spread, 1)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > MIN_NORM, norms, 1))


def compute_inertia(rows: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Sum the squared distances of rows [n, d] from the means of their clusters, which is what k-means makes small."""
    members = [rows[labels == label].astype(np.float64) for label in np.unique(labels)]
    return float(sum(((part - part.mean(0)) ** 2).sum() for part in members))


def _run_k_means(rows: npt.NDArray[np.float64], k: int, seed: int) -> npt.NDArray[np.int64]:
    from sklearn.cluster import KMeans  # takes a second to import
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():  # threads add up in any order
        warnings.simplefilter("ignore", ConvergenceWarning)  # of descriptors that are equal
        model = KMeans(k, n_init=RESTARTS, max_iter=MAX_STEPS, random_state=seed).fit(rows)
    return np.asarray(model.labels_, np.int64)
