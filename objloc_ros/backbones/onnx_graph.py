"""A backbone whose pass on a CPU is ONNX Runtime's, from a graph that ships without weights.

ONNX Runtime fuses activations and sums into convolutions and lays out their memory once: what is many small operators
in PyTorch takes two thirds of the time. The graph knows the operators only; the weights are the module's own, handed
over in memory when a session starts, so that one graph serves every training of an architecture. Gradients, GPUs and
machines without ONNX Runtime have the module itself.

    python -m objloc_ros.backbones.onnx_export      writes the graphs anew, after a change of an architecture
"""

from __future__ import annotations

import threading
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from objloc_ros.backbones.onnx_file import CPU, make_options
from objloc_ros.backbones.onnx_runtime import facet_shapes, run_session
from objloc_ros.backbones.specs import SPECS, patch_grid
from objloc_ros.backbones.vit import ViT
from objloc_ros.errors import WeightsError
from objloc_ros.types import Features

GRAPHS = {"tiny": Path(__file__).parent / "tiny" / "tiny_graph.onnx"}
"""Files of graphs by backbone."""

_CURE = "write it anew with python -m objloc_ros.backbones.onnx_export"


class GraphViT(ViT):
    """A ViT that computes in ONNX Runtime what it is asked for on a CPU without gradients.

    Args:
        vit: The eager module; its weights are read when a session starts and must not change any more.
        file: The graph of its architecture.
    """

    def __init__(self, vit: ViT, file: Path) -> None:
        super().__init__(cast(Any, vit.vit), replace(vit.spec, bfloat16=False))
        self.file = file
        self._sessions: dict[int, Any] = {}  # by number of threads
        self._starting = threading.Lock()

    def forward(self, images: Tensor) -> Features:
        """Return the facets of the last block, see `ViT.forward`; on as many threads as torch has for the caller."""
        if images.device.type != "cpu" or torch.is_grad_enabled():
            return super().forward(images)
        rows, columns = grid = patch_grid(images.shape[-2:], self.patch)
        shapes = facet_shapes(self, len(images), rows * columns)
        session = self._start_session(torch.get_num_threads())
        return Features(**run_session(session, images.float().contiguous(), shapes), grid=grid, answers={})

    def _start_session(self, threads: int) -> Any:
        """Return the session of so many threads, started with the first pass on them.

        Raises:
            WeightsError: If the graph is of another architecture.
        """
        with self._starting:
            if threads not in self._sessions:
                self._sessions[threads] = _open_graph(self, self.file, threads)
            return self._sessions[threads]


def with_graph(vit: ViT, name: str) -> ViT:
    """Return a backbone that runs by its graph where it has one, and where ONNX Runtime is installed; else itself.

    Args:
        vit: The backbone.
        name: Its name in the registry.
    """
    is_plain = type(vit) is ViT and name in GRAPHS and vit.spec == SPECS[name]
    return GraphViT(vit, GRAPHS[name]) if is_plain and find_spec("onnxruntime") is not None else vit


def list_weights(vit: ViT) -> list[str]:
    """Return the names of the weights that a pass reads: of the last block the projection only."""
    last = f"blocks.{vit.spec.depth - 1}."
    unread = ("norm.", *(last + part for part in ("attn.proj.", "norm2.", "mlp.")))
    return [name for name in vit.vit.state_dict() if not name.startswith(unread)]


def _open_graph(vit: ViT, file: Path, threads: int) -> Any:
    import onnxruntime

    state, names = vit.vit.state_dict(), list_weights(vit)
    values = [state[name].detach().float().contiguous().numpy() for name in names]
    options = make_options(threads)
    options.add_external_initializers(names, [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in values])
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=[CPU])
    except Exception as error:  # its exceptions have no common base of their own
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{file} does not fit the backbone ({reason}): {_CURE}") from error
