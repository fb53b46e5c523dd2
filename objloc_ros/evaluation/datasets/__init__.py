"""The papers' data sets, read from the user's folder in the layout in which they are published."""

from objloc_ros.evaluation.datasets.base import Dataset, Sample
from objloc_ros.evaluation.datasets.registry import DATASETS, open_dataset

__all__ = ["DATASETS", "Dataset", "Sample", "open_dataset"]
