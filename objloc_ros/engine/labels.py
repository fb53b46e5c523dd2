"""What the objects of a method may be called, known before any network is loaded."""

from __future__ import annotations

from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.heads.image_methods import IMAGE_METHODS
from objloc_ros.methods.options import SEGMENTATION


def list_labels(config: PipelineConfig, method: str) -> tuple[str, ...]:
    """Return what the objects of a method may be called; no network is loaded.

    Raises:
        WeightsError: The file that says it is missing or refused.
    """
    if method in IMAGE_METHODS and (read := IMAGE_METHODS[method].read_labels) is not None:
        return read(config.network or IMAGE_METHODS[method].network, config.weights)
    if method == "detector":
        from objloc_ros.methods.detector_file import find_detector, read_exported_detector, read_info

        exported = None if config.head_weights or not config.weights else read_exported_detector(config.weights)
        return (exported or read_info(find_detector(config.backbone, config.head_weights))).classes
    return config.prompts if method in SEGMENTATION else ("object",)
