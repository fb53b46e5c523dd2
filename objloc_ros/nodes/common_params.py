"""Parameters that several nodes have."""

from __future__ import annotations

from objloc_ros.nodes.image_input import TRANSPORTS
from objloc_ros.nodes.params import Spec

CAMERA = (
    Spec("autostart", True, "Configure and activate at start; off for a life-cycle manager."),
    Spec("image_transport", "raw", "Subscribe to `image` or to `image/compressed`.", choices=tuple(TRANSPORTS)),
    Spec(
        "max_age_ms",
        500.0,
        "Frames older than this when their turn comes are dropped, in milliseconds; 0 switches the limit off.",
        live=True,
        minimum=0.0,
        maximum=60_000.0,
    ),
)
"""Of every perception node."""

BACKBONE = (
    Spec("backbone", "tiny", "Backbone by its name in the weights registry."),
    Spec("device", "auto", "`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."),
    Spec("weights", "", "Path of the backbone's weights; empty takes the registered ones."),
    Spec(
        "short_side",
        0,
        "Images are scaled down until their shorter side has this many pixels; 0 takes the backbone's own size.",
        minimum=0,
        maximum=4096,
    ),
    *CAMERA,
)
"""Of every node with a backbone."""

IDLE_PRIORITY = Spec(
    "idle_priority",
    True,
    "Use only the processor time that nobody else wants, so that camera-rate nodes keep their pace.",
)
"""Of nodes that follow the camera at the pace they can."""
