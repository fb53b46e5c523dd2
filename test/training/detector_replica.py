"""One of two processes that train a detector together: `detector_replica.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from detector_toy import MODES, ColourBackbone, make_labels, shared_settings, weights

from objloc_ros.training.detector import train_detector
from objloc_ros.training.distributed import join_replicas


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with join_replicas(torch.device("cpu")) as replicas:
        if replicas.writes:
            make_labels(folder / "images", sizes=((64, 80), (72, 64)), empty=2)
        replicas.wait()
        labels = make_labels(folder / "images", sizes=((64, 80), (72, 64)), empty=2, write=False)
        for mode in MODES:
            detector, log = train_detector(
                ColourBackbone(),
                labels,
                shared_settings(mode),
                checkpoint=folder / f"{mode}.checkpoint",
                cache=folder / "cache" if mode == "cached" else None,
                replicas=replicas,
            )
            torch.save({"weights": weights(detector), "log": log.losses}, folder / f"{mode}.{replicas.rank}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
