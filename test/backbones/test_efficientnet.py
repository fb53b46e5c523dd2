"""EfficientNet-Lite0's trunk: its features beside timm's, and what is not its weights."""

from pathlib import Path

import pytest
import timm
import torch

from objloc_ros.backbones.efficientnet import STAGES, EfficientNetLite0, fold_batch_norms
from objloc_ros.errors import WeightsError


@pytest.fixture(scope="module")
def original():
    """timm's network with symmetric padding, its batch norms as uneven as a trained one's."""
    torch.manual_seed(0)
    network = timm.create_model("efficientnet_lite0", bn_eps=1e-3).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low in ((module.running_mean, -0.3), (module.bias, -0.3), (module.running_var, 0.5)):
                torch.nn.init.uniform_(values, low, low + 1.0)
    return network


def test_folded_weights_give_the_features_of_the_original(original):
    folded = fold_batch_norms(original.state_dict(), Path("lite0.pth"))
    trunk = EfficientNetLite0().eval()
    trunk.load_state_dict({name: folded[name] for name in trunk.state_dict()})
    images = torch.rand(2, 3, 72, 104) * 2 - 1
    with torch.inference_mode():
        maps = trunk(images)
        expected = original.bn1(original.conv_stem(images))
        for mine, block in zip(maps, original.blocks, strict=True):
            expected = block(expected)
            torch.testing.assert_close(mine, expected, atol=2e-3, rtol=2e-3)
        head = torch.nn.functional.conv2d(maps[-1], folded["head.weight"], folded["head.bias"])
        pooled = torch.nn.functional.relu6(head).mean((2, 3))
        scores = torch.nn.functional.linear(pooled, folded["classifier.weight"], folded["classifier.bias"])
        torch.testing.assert_close(scores, original(images), atol=5e-3, rtol=5e-3)


def test_stages_halve_the_picture_as_the_table_says():
    with torch.inference_mode():
        shapes = [tuple(stage.shape[1:]) for stage in EfficientNetLite0(stages=6)(torch.zeros(1, 3, 64, 96))]
    sides = [(32, 48), (16, 24), (8, 12), (4, 6), (4, 6), (2, 3)]
    assert shapes == [(stage.channels, *side) for stage, side in zip(STAGES, sides, strict=False)]


def test_weights_of_another_network_are_refused():
    with pytest.raises(WeightsError, match=r"other\.pth is not EfficientNet-Lite0: it has 1 tensors, not 247"):
        fold_batch_norms({"weight": torch.zeros(3)}, Path("other.pth"))
