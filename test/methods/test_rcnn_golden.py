"""R-CNNs against detectron2 with the configurations of CutLER and LOST: names, shapes, every stage of the forward pass.

The weights are drawn from the tensors' names, as they were for the originals.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from golden_cases import DEVICE, Case, find_cases, load_case, to_device

from objloc_ros.methods.rcnn import (
    ANCHOR_SIZES,
    PyramidHeads,
    Rcnn,
    RcnnSpec,
    StageHeads,
    pool_regions,
    prepare_image,
    run_cascade,
    select_objects,
)
from objloc_ros.methods.rcnn_weights import read_spec
from objloc_ros.methods.region_proposals import make_anchors

CLOSE = {"rtol": 0, "atol": 2e-5}
SPECS = {
    "case00": RcnnSpec((3, 4, 6, 3), pyramid=True, stages=3, classes=1, box_classes=1, masks=True),
    "case01": RcnnSpec((3, 4, 6, 3), pyramid=True, stages=1, classes=1, box_classes=1, masks=True),
    "case02": RcnnSpec((3, 4, 6, 3), pyramid=False, stages=1, classes=1, box_classes=1, masks=False),
}


def draw_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Draw a tensor as the originals' were drawn."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    random = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    values = random.standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        values /= np.float32(np.sqrt(np.prod(shape[1:])))
    elif name.endswith("norm.weight"):
        values = 1 + np.float32(0.1) * values
    elif name.endswith("running_var"):
        values = 1 + np.float32(0.1) * np.abs(values)
    else:
        values *= np.float32(0 if "anchor" in name else 0.1)
    return torch.from_numpy(values)


class Drawn(NamedTuple):
    """A case, and the network with its weights."""

    name: str
    case: Case
    network: Rcnn


@pytest.fixture(scope="module", params=find_cases("rcnn_weights"), ids=lambda path: path.stem)
def drawn(request: pytest.FixtureRequest) -> Iterator[Drawn]:
    case = load_case(request.param)
    shapes = [tuple(side for side in shape.tolist() if side >= 0) for shape in case["shapes"]]
    state = {name: draw_tensor(name, shape) for name, shape in zip(case["names"].tolist(), shapes, strict=True)}
    with torch.device("meta"):
        network = Rcnn(read_spec(state, Path("golden.pth")))
    expected = [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]
    assert expected == [(name, tuple(tensor.shape)) for name, tensor in state.items()]
    network.load_state_dict(state, assign=True)
    with torch.inference_mode():
        yield Drawn(request.param.stem, case, network.requires_grad_(False).eval().to(DEVICE))


@pytest.fixture(scope="module")
def levels(drawn: Drawn) -> list[torch.Tensor]:
    image = np.ascontiguousarray(drawn.case["image"].transpose(1, 2, 0))
    return drawn.network.compute_levels(
        prepare_image(image, image.shape[:2], 32 if drawn.network.spec.pyramid else 1).to(DEVICE)
    )


def check(value: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(value.cpu(), torch.from_numpy(expected), **CLOSE)


def test_the_network_is_known_by_the_names_of_its_tensors(drawn: Drawn) -> None:
    assert drawn.network.spec == SPECS[drawn.name]


def test_features(drawn: Drawn, levels: list[torch.Tensor]) -> None:
    if drawn.network.spec.pyramid:
        check(levels[0][0].mean((1, 2)), drawn.case["p2_mean"])
        check(levels[2][0, :32], drawn.case["p4"])
        check(levels[4][0], drawn.case["p6"])
    else:
        check(levels[0][0, ::16], drawn.case["res4"])


def test_proposals(drawn: Drawn, levels: list[torch.Tensor]) -> None:
    if drawn.network.spec.pyramid:
        features, stride, sizes, suffix = levels[3], 32, ANCHOR_SIZES[3:4], "_p5"
    else:
        features, stride, sizes, suffix = levels[0], 16, ANCHOR_SIZES, ""
    logits, codes = drawn.network.proposal_generator.rpn_head(features)
    check(logits, drawn.case[f"rpn_logits{suffix}"])
    check(codes, drawn.case[f"rpn_deltas{suffix}"])
    check(make_anchors(features.shape[-2:], stride, sizes), drawn.case[f"anchors{suffix}"])


def test_region_heads(drawn: Drawn, levels: list[torch.Tensor]) -> None:
    boxes, heads = to_device(drawn.case["boxes"]), drawn.network.roi_heads
    if isinstance(heads, StageHeads):
        vectors = heads.describe(levels, boxes)
        check(vectors[:, ::16], drawn.case["roi_mean"])
        logits, codes = heads.box_predictor(vectors)
        check(logits, drawn.case["box_scores"])
        check(codes, drawn.case["box_deltas"])
        return
    check(pool_regions(levels, boxes, 7).mean((2, 3))[:, :64], drawn.case["pooled_mean"])
    for number, stage in enumerate(heads.list_stages(levels)):
        logits, codes = stage(boxes)
        check(logits, drawn.case["box_scores"][number])
        check(codes, drawn.case["box_deltas"][number])


def test_masks(drawn: Drawn, levels: list[torch.Tensor]) -> None:
    boxes, heads = to_device(drawn.case["boxes"]), drawn.network.roi_heads
    masks = heads.predict_masks(levels, boxes, torch.zeros(len(boxes), dtype=torch.int64, device=DEVICE))
    if isinstance(heads, PyramidHeads):
        assert masks is not None
        check(masks, 1 / (1 + np.exp(-drawn.case["mask_logits"][:, 0])))
    else:
        assert masks is None


@pytest.mark.parametrize("path", find_cases("cutler_cascade"), ids=lambda path: path.stem)
def test_a_cascade_ends_in_the_originals_detections(path: Path) -> None:
    case = load_case(path)
    images, count = case["proposals"].shape[:2]
    first = 0
    for number in range(images):
        rows = slice(number * count, (number + 1) * count)
        answers = [
            (to_device(case[f"scores{stage}"][rows]), to_device(case[f"deltas{stage}"][rows])) for stage in range(3)
        ]
        height, width = case["sizes"][number].tolist()
        proposals = to_device(case["proposals"][number])
        regions = run_cascade(proposals, (height, width), [lambda boxes, answer=answer: answer for answer in answers])
        boxes, scores, classes = select_objects(
            regions, (height, width), threshold=0, nms_iou=float(case["nms"]), limit=int(case["top"])
        )
        last = first + int(case["count"][number])
        torch.testing.assert_close(boxes.cpu(), torch.from_numpy(case["boxes"][first:last]), rtol=0, atol=1e-4)
        torch.testing.assert_close(scores.cpu(), torch.from_numpy(case["scores"][first:last]), rtol=0, atol=1e-6)
        assert not classes.any()
        first = last
    assert first == len(case["boxes"])
