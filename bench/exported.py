"""Exported backbones against eager ones: milliseconds of one pass, and how far the features are apart.

    python bench/exported.py            full size, two minutes on two cores
    python bench/exported.py --smoke    seconds; shows that everything runs and agrees

Nothing is asserted about time. The passes take turns, so that all of them see the same machine.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch
from harness import machine, wall_ms, write_json

from objloc_ros.backbones.onnx_export import export_backbone
from objloc_ros.backbones.onnx_runtime import load_exported
from objloc_ros.backbones.reduced import has_bfloat16_units
from objloc_ros.backbones.vit import ViT, build_vit
from objloc_ros.backbones.weights import load_backbone
from objloc_ros.io.tables import text_table
from objloc_ros.types import Features, Size

FLOAT32, BFLOAT16, EXPORTED = "eager float32", "eager bfloat16", "onnxruntime float32"


class BackboneTiming(NamedTuple):
    """One backbone at one size.

    Args:
        name: Backbone, its weights and the size.
        best_ms: Best milliseconds of each pass.
        median_ms: Median milliseconds of each pass.
        differences: Of the keys from eager float32, relative to their largest value.
    """

    name: str
    best_ms: dict[str, float]
    median_ms: dict[str, float]
    differences: dict[str, float]


def main() -> None:
    """Export, time and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="the embedded model at a small size, some seconds in all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    parser.add_argument("--threads", type=int, default=1, help="torch and ONNX Runtime threads (default: 1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    where = f"{machine()}, onnxruntime {onnxruntime.__version__}, {args.threads} thread(s)"
    print(where)
    if not has_bfloat16_units(torch.device("cpu")):
        print("this CPU has no bfloat16 units: the pipeline would not run eager bfloat16 here")
    rows = [measure("tiny", load_backbone("tiny"), (64, 96) if args.smoke else (192, 256), 3 if args.smoke else 60)]
    if not args.smoke:
        rows.append(measure("dino_vits16", build_vit("dino_vits16").eval(), (480, 640), 12))
    print_rows(rows)
    if args.json:
        write_json(args.json, machine=where, smoke=args.smoke, rows=[row._asdict() for row in rows])


@torch.inference_mode()
def measure(backbone: str, model: ViT, size: Size, rounds: int) -> BackboneTiming:
    """Time the passes in turns, after one untimed call of each whose keys are compared."""
    images = torch.randn(1, 3, *size)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export_backbone(model, file, backbone=backbone, weights_sha256="unknown")
        exported = load_exported(file)

        def bfloat16() -> Features:
            with torch.autocast("cpu", torch.bfloat16):
                return model(images)

        passes: dict[str, Callable[[], Features]] = {
            FLOAT32: lambda: model(images),
            BFLOAT16: bfloat16,
            EXPORTED: lambda: exported(images),
        }
        keys = {name: call().keys for name, call in passes.items()}
        gc.collect()
        times = [{name: wall_ms(call) for name, call in passes.items()} for _ in range(rounds)]
    columns = {name: [milliseconds[name] for milliseconds in times] for name in passes}
    wanted = keys[FLOAT32]
    return BackboneTiming(
        f"{backbone} {size[1]}x{size[0]}",
        {name: min(column) for name, column in columns.items()},
        {name: float(np.median(column)) for name, column in columns.items()},
        {name: ((found - wanted).abs().max() / wanted.abs().max()).item() for name, found in keys.items()},
    )


def print_rows(rows: list[BackboneTiming]) -> None:
    """Print a line per pass, with its speed relative to eager float32."""
    lines: list[tuple[str, ...]] = [("", "", "best", "median", "speed", "difference of the keys")]
    for row in rows:
        for name, best in row.best_ms.items():
            times = f"{best:.1f} ms", f"{row.median_ms[name]:.1f} ms", f"{row.best_ms[FLOAT32] / best:.2f}x"
            lines.append((row.name, name, *times, f"{row.differences[name]:.0e}"))
    print(text_table(lines, left=2))


if __name__ == "__main__":
    main()
