"""Find objects nobody has labelled: self-supervised localisation as a library, a command and ROS 2 nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from objloc_ros.version import __version__

if TYPE_CHECKING:
    from objloc_ros.engine.pipeline import Pipeline, load_pipeline

__all__ = ["Pipeline", "__version__", "load_pipeline"]


def __getattr__(name: str) -> Any:
    """Import the pipeline (and with it torch) only when it is asked for."""
    if name in ("Pipeline", "load_pipeline"):
        from objloc_ros.engine import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
