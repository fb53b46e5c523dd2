"""The machine that a TensorRT engine was built for: an engine runs on no other, and says so before it is tried."""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from objloc_ros.errors import WeightsError

_QUERY = "name,compute_cap,driver_version"
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Machine:
    """What an engine depends on.

    Args:
        gpu: Name of the GPU.
        compute: Its compute capability, such as "9.0".
        driver: Version of NVIDIA's driver.
        tensorrt: Version of TensorRT.
        onnxruntime: Version of ONNX Runtime, whose provider reads the engine.
    """

    gpu: str
    compute: str
    driver: str
    tensorrt: str
    onnxruntime: str

    def to_dict(self) -> dict[str, str]:
        """Return the texts for a file's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, texts: Mapping[str, str], path: Path) -> Machine:
        """Read the texts back.

        Raises:
            WeightsError: If they are others than these.
        """
        names = [field.name for field in fields(cls)]
        if sorted(texts) != sorted(names):
            raise WeightsError(f"{path} names {', '.join(texts)} of its engine's machine, expected {', '.join(names)}")
        return cls(**texts)

    def check(self, here: Machine, path: Path) -> None:
        """Raise WeightsError unless an engine that was built for this machine runs on the one here."""
        mine, other = self.to_dict(), here.to_dict()
        differences = [f"{name} {mine[name]}, here {other[name]}" for name in mine if mine[name] != other[name]]
        if differences:
            raise WeightsError(
                f"{path} is a TensorRT engine for another machine ({'; '.join(differences)}): build it anew on this "
                "one with `objloc export --build-engine`"
            )


def read_machine(index: int = 0) -> Machine:
    """Describe this machine with the GPU of this number.

    Raises:
        WeightsError: If there is no such GPU, or TensorRT or ONNX Runtime is not installed.
    """
    absent = [name for name in ("tensorrt", "onnxruntime") if find_spec(name) is None]
    if absent:
        raise WeightsError(
            f"TensorRT engines need {' and '.join(absent)}, not installed here: pip install tensorrt onnxruntime-gpu"
        )
    name, compute, driver = _ask_driver(index)
    versions = {package: str(importlib.import_module(package).__version__) for package in ("tensorrt", "onnxruntime")}
    return Machine(name, compute, driver, **versions)


def _ask_driver(index: int) -> list[str]:
    """Return name, compute capability and driver of a GPU, as nvidia-smi says them."""
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise WeightsError(f"TensorRT engines need an NVIDIA GPU, and nvidia-smi tells of none: {error}") from error
    facts = [fact.strip() for fact in done.stdout.strip().split(",")]
    if len(facts) != 3:
        raise WeightsError(f"nvidia-smi says {done.stdout.strip()!r} of GPU {index}, expected {_QUERY}")
    return facts
