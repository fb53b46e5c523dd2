"""Labels of a batch on a GPU: those of its images one by one, for as many launches as one image; on a stand-in."""

import pytest
import torch
from stand_in import GPU, StandIn

from objloc_ros.engine.heads.labelling import choose_classes

COSINES = torch.rand(8, 4, 6, 5, generator=torch.Generator().manual_seed(1)) - 0.3
SALIENCY = torch.rand(8, 6, 5, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("background", ["found", "prompt", "none"])
@pytest.mark.parametrize("signed", [False, True])
def test_labels_of_a_batch_cost_as_much_as_those_of_one_image(background, signed):
    costs = []
    for size in (1, 4, 8):
        saliency = SALIENCY[:size] if background == "found" else None
        with StandIn() as gpu:
            there = None if saliency is None else saliency.to(GPU)
            chosen = choose_classes(COSINES[:size].to(GPU), there, background, signed=signed)
            assert not gpu.waits
            costs.append(gpu.counts)
            best, sure = (each.cpu() for each in chosen)
        for i in range(size):
            alone = None if saliency is None else saliency[i]
            expected, expected_sure = choose_classes(COSINES[i], alone, background, signed=signed)
            assert torch.equal(best[i], expected)
            torch.testing.assert_close(sure[i], expected_sure)
    assert costs[0] == costs[1] == costs[2]


def test_regions_of_a_batch_are_united_image_by_image():
    best, _ = choose_classes(COSINES, SALIENCY, "found", min_region=0.1)
    for i in range(8):
        assert torch.equal(best[i], choose_classes(COSINES[i], SALIENCY[i], "found", min_region=0.1)[0])
