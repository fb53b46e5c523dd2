"""Metrics of the papers, each by its own protocol; what an image contributes can be kept and added up later."""

from objloc_ros.metrics.average_precision import Scored, average_precision, coco_metrics, object_metrics
from objloc_ros.metrics.boxes import Boxes, CorLoc, corloc, iou, is_hit

__all__ = [
    "Boxes",
    "CorLoc",
    "Scored",
    "average_precision",
    "coco_metrics",
    "corloc",
    "iou",
    "is_hit",
    "object_metrics",
]
