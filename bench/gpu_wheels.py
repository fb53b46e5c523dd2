"""What bench/gpu.py needs beside a PyTorch that knows the GPU: carried as wheels to machines without a network.

    python bench/gpu_wheels.py fetch FOLDER [--for 3.12]     here: fetches those that a PyTorch image tends to lack
    python bench/gpu_wheels.py install FOLDER SITE           there: installs what its interpreter lacks, nothing else

PyTorch and torchvision themselves are not carried: with CUDA they are gigabytes.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

NEEDS = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "scipy": "scipy",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "tqdm": "tqdm",
    "sklearn": "scikit-learn",
    "safetensors": "safetensors",
    "threadpoolctl": "threadpoolctl",
    "array_api_compat": "array-api-compat",
    "timm": "timm",
    "huggingface_hub": "huggingface-hub",
    "open_clip": "open-clip-torch",
    "regex": "regex",
    "ftfy": "ftfy",
    "wcwidth": "wcwidth",
    "onnxruntime": "onnxruntime",
    "pytest": "pytest",
    "skimage": "scikit-image",
    "faster_coco_eval": "faster-coco-eval",
    "py_sod_metrics": "pysodmetrics",
}
"""Distributions by the module that is imported of each; the golden cases' tests read the last ones."""

FETCHED = (
    "array-api-compat",
    "timm",
    "open-clip-torch",
    "regex",
    "ftfy",
    "wcwidth",
    "safetensors",
    "threadpoolctl",
    "faster-coco-eval",
    "pysodmetrics",
)
"""Some megabytes in all; `--all` fetches whatever `NEEDS` lists but PyTorch's."""

PYTORCH = ("torch", "torchvision")
ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def main() -> int:
    """Fetch or install."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch")
    fetching.add_argument("folder", type=Path)
    fetching.add_argument("--for", dest="python", default="3.12", help="Python of the other machine (default: 3.12)")
    fetching.add_argument("--all", action="store_true", help="all but PyTorch, not the small ones only")
    installing = commands.add_parser("install")
    installing.add_argument("folder", type=Path)
    installing.add_argument("site", type=Path)
    args = parser.parse_args()
    if args.command == "fetch":
        names = [name for name in NEEDS.values() if name not in PYTORCH] if args.all else list(FETCHED)
        return fetch(args.folder, args.python, names)
    return install(args.folder, args.site)


def fetch(folder: Path, python: str, names: list[str]) -> int:
    """Fetch wheels for Linux on x86_64, without what they need in turn; returns pip's status."""
    if not re.fullmatch(r"3\.\d{1,2}", python):
        print(f"--for must be a version of Python such as 3.12, got {python!r}", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    command += ["--implementation", "cp", "--python-version", python, "-c", str(ROOT / "constraints.txt")]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    return subprocess.run([*command, *names], check=False).returncode


def install(folder: Path, site: Path) -> int:
    """Install from wheels what this interpreter lacks; 2 if something is missing from both.

    Args:
        folder: Of the wheels.
        site: Where to; the caller puts it on the path.
    """
    wheels = {re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower(): path for path in sorted(folder.glob("*.whl"))}
    lacking = [name for module, name in NEEDS.items() if find_spec(module) is None]
    absent = [name for name in lacking if name not in wheels]
    if absent:
        print(f"{sys.executable} lacks {', '.join(absent)}, and {folder} has no wheels of them", file=sys.stderr)
        return 2
    if not lacking:
        return 0
    print(f"installing {', '.join(lacking)} into {site}")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-cache-dir", "--upgrade"]
    return subprocess.run([*command, "--target", str(site), *(str(wheels[name]) for name in lacking)]).returncode


if __name__ == "__main__":
    sys.exit(main())
