"""What to say where a Python package is missing: which file of this repository brings it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

RUN_LENGTHS = ("faster_coco_eval",)
"""Modules without which no mask of a COCO document is read or written."""

EVALUATION = (*RUN_LENGTHS, "py_sod_metrics")
"""Modules without which data sets are not judged."""

BROUGHT_BY = {
    "requirements-evaluation.txt": {*EVALUATION, "foxglove", "jinja2", "markupsafe", "matplotlib", "ray", "rerun"},
    "requirements-dev.txt": {"onnx", "onnxscript", "skimage", "tokenizers"},
    "requirements.txt": {
        *("array_api_compat", "onnxruntime", "open_clip", "rosbags"),
        *("safetensors", "threadpoolctl", "timm", "torch", "torchvision"),
    },
    # Of these, apt has its own on a ROS 2 machine (package.xml).
    "requirements-detect.txt": {"PIL", "cv2", "numpy", "scipy", "sklearn", "tqdm", "yaml"},
}
"""Top-level modules that each requirements file adds. What none of them has is ROS's."""


def require(modules: Iterable[str]) -> None:
    """Check that modules are installed, before a command has worked for an hour.

    Raises:
        ModuleNotFoundError: If one is not; `main` tells users what to do.
    """
    for name in modules:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def describe_missing(module: str) -> str:
    """Return in one line what a missing module is and how to get it.

    Args:
        module: Its name as in `ModuleNotFoundError.name`, with or without sub-modules.
    """
    top = module.partition(".")[0]
    file = next((file for file, modules in BROUGHT_BY.items() if top in modules), None)
    remedy = f"pip install -r {file}" if file else "it comes with ROS 2"
    return f"the Python module {module!r}: {remedy} (docs/install.md)"
