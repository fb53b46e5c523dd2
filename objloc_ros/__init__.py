"""Find objects nobody has labelled: self-supervised localisation as a library, a command and ROS 2 nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from objloc_ros.version import __version__

if TYPE_CHECKING:
    from objloc_ros.engine.pipeline import Pipeline, load_pipeline
    from objloc_ros.engine.video_tracker import VideoTracker

__all__ = ["Pipeline", "VideoTracker", "__version__", "load_pipeline"]


def __getattr__(name: str) -> Any:
    """Import the engine (and with it torch) only when it is asked for."""
    if name in ("Pipeline", "load_pipeline"):
        from objloc_ros.engine import pipeline

        return getattr(pipeline, name)
    if name == "VideoTracker":
        from objloc_ros.engine.video_tracker import VideoTracker

        return VideoTracker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
