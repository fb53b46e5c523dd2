"""What nodes hold while they rest: their networks, and nothing of the frames they have seen."""

import gc

import pytest

pytest.importorskip("vision_msgs")
import torch
from rclpy.parameter import Parameter
from std_msgs.msg import Header

from objloc_ros.engine import loader, prompts
from objloc_ros.engine.loader import SharedLoader
from objloc_ros.engine.pipeline import build_pipeline
from objloc_ros.nodes.camera import Frame
from objloc_ros.nodes.discovery import DiscoveryAdapter
from objloc_ros.nodes.found import FoundAdapter
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.nodes.segmentation import SegmentationAdapter


@pytest.fixture(scope="module", autouse=True)
def networks_of_their_own(networks):
    """What nodes let go of, nobody else holds."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (loader, "load_backbone"),
            (loader, "load_clip_image"),
            (prompts, "load_clip_text"),
        ):
            patch.setattr(module, name, getattr(module, name).__wrapped__)
        yield


@pytest.fixture(scope="module")
def make(context):
    nodes, loader = [], SharedLoader()

    def make(kind):
        client = loader.make_client(kind.__name__)
        node = PerceptionNode(
            kind(lambda config: build_pipeline(config, client)),
            context=context,
            parameter_overrides=[Parameter("device", value="cpu")],
        )
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.close()
        node.destroy_node()


def tensor_bytes():
    """Memory of all living tensors, each storage once."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values())


def image_message(disc):
    from sensor_msgs.msg import Image

    pixels = disc(size=(240, 320))
    return Image(height=240, width=320, step=960, encoding="rgb8", data=pixels.tobytes(), header=Header())


@pytest.mark.parametrize("kind", [FoundAdapter, DiscoveryAdapter, SegmentationAdapter])
def test_a_deactivated_node_holds_no_tensors_but_the_networks(make, disc, kind):
    node = make(kind)
    assert node.trigger_configure().name == "SUCCESS"
    networks = tensor_bytes()
    assert node.trigger_activate().name == "SUCCESS"
    for _ in range(3):
        frame = Frame(image_message(disc))
        node.adapter.process(frame, None, wanted=frozenset())
    assert tensor_bytes() > networks  # the frame's features
    del frame
    assert node.trigger_deactivate().name == "SUCCESS"
    assert tensor_bytes() <= networks
    assert node.trigger_cleanup().name == "SUCCESS"
    assert tensor_bytes() < networks


def test_a_second_camera_costs_next_to_nothing(make):
    first, second = make(SegmentationAdapter), make(SegmentationAdapter)
    before = tensor_bytes()
    first.trigger_configure()
    one = tensor_bytes() - before
    second.trigger_configure()
    both = tensor_bytes() - before
    assert one > 2_000_000
    assert both - one < 0.01 * one
