"""Metrics of the papers, each by its own protocol; all of them are used alike (`metrics.base.Metric`)."""

from objloc_ros.metrics.average_precision import AveragePrecision, ScoredImage, average_precision
from objloc_ros.metrics.base import Mean, Metric
from objloc_ros.metrics.boxes import Boxes3D, CorLoc, box_iou_3d
from objloc_ros.metrics.clusters import ClusterAP, ClusteredImage, class_ap, match_clusters
from objloc_ros.metrics.rank_ap import RankAP, RankFigures
from objloc_ros.metrics.saliency import Saliency
from objloc_ros.metrics.semantic import MeanIoU
from objloc_ros.metrics.steadiness import Flicker, Steadiness
from objloc_ros.ops.boxes import Boxes, iou

__all__ = [
    "AveragePrecision",
    "Boxes",
    "Boxes3D",
    "ClusterAP",
    "ClusteredImage",
    "CorLoc",
    "Flicker",
    "Mean",
    "MeanIoU",
    "Metric",
    "RankAP",
    "RankFigures",
    "Saliency",
    "ScoredImage",
    "Steadiness",
    "average_precision",
    "box_iou_3d",
    "class_ap",
    "iou",
    "match_clusters",
]
