"""The papers' data sets, read from the user's folder in the layout in which they are published, and one's own."""

from objloc_ros.data.base import Dataset, Sample
from objloc_ros.data.convert import to_coco
from objloc_ros.data.registry import DATASETS, list_options, open_dataset

__all__ = ["DATASETS", "Dataset", "Sample", "list_options", "open_dataset", "to_coco"]
