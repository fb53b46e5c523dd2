"""The nav2 samples: parameters that the layers declare, in the types that they declare them in, and complete."""

from pathlib import Path

import pytest
import yaml

CONFIG = Path(__file__).resolve().parents[2] / "config" / "nav2"

# ros-navigation/semantic_segmentation_layer, main at b269885, src/semantic_segmentation_layer.cpp
SEMANTIC = {
    "plugin": str,
    "enabled": bool,
    "combination_method": int,
    "use_approximate_time_sync": bool,
    "sensor_data_depth": int,
    "observation_sources": str,
}
SEMANTIC_SOURCE = {
    "segmentation_topic": str,
    "confidence_topic": str,
    "labels_topic": str,
    "pointcloud_topic": str,
    "max_obstacle_distance": float,
    "min_obstacle_distance": float,
    "tile_map_decay_time": float,
    "use_cost_selection": bool,
    "class_types": list,
}
CLASS_TYPE = {
    "classes": list,
    "base_cost": int,
    "max_cost": int,
    "mark_confidence": int,
    "samples_to_max_cost": int,
    "dominant_priority": bool,
}
# ros-navigation/navigation2, main at a3a9704, nav2_costmap_2d/plugins/voxel_layer.cpp and obstacle_layer.cpp
VOXEL = {
    "plugin": str,
    "enabled": bool,
    "footprint_clearing_enabled": bool,
    "combination_method": int,
    "origin_z": float,
    "z_resolution": float,
    "z_voxels": int,
    "min_obstacle_height": float,
    "max_obstacle_height": float,
    "mark_threshold": int,
    "observation_sources": str,
}
OBSTACLE_SOURCE = {
    "topic": str,
    "data_type": str,
    "sensor_frame": str,
    "marking": bool,
    "clearing": bool,
    "min_obstacle_height": float,
    "max_obstacle_height": float,
    "obstacle_max_range": float,
    "obstacle_min_range": float,
    "raytrace_max_range": float,
    "raytrace_min_range": float,
    "observation_persistence": float,
    "expected_update_rate": float,
}


def read(name, layer):
    costmap = yaml.safe_load((CONFIG / name).read_text())["local_costmap"]["local_costmap"]["ros__parameters"]
    assert layer in costmap["plugins"]
    return costmap[layer]


def check(given, known):
    """Nothing that the layer does not declare, and nothing of another type: it would refuse to start."""
    assert {name: type(value) for name, value in given.items()} == {name: known[name] for name in given}


@pytest.mark.parametrize("name", ["semantic_found.yaml", "semantic_prompts.yaml"])
def test_the_semantic_layer_declares_the_samples_parameters(name):
    layer = read(name, "semantic_layer")
    source = layer.pop("camera")
    assert layer["observation_sources"] == "camera"
    check(layer, SEMANTIC)
    for kind in source["class_types"]:
        costs = source.pop(kind)
        assert set(costs) == set(CLASS_TYPE)
        check(costs, CLASS_TYPE)
        assert all(0 <= costs[cost] <= 254 for cost in ("base_cost", "max_cost", "mark_confidence"))
    assert set(source) == set(SEMANTIC_SOURCE)
    check(source, SEMANTIC_SOURCE)


def test_the_voxel_layer_declares_the_samples_parameters():
    layer = read("voxel_locate.yaml", "objects_layer")
    sources = {name: layer.pop(name) for name in layer["observation_sources"].split()}
    check(layer, VOXEL)
    for source in sources.values():
        check(source, OBSTACLE_SOURCE)
        assert source["data_type"] == "PointCloud2"
        assert source["max_obstacle_height"] > 0  # 0, the default, would leave nothing
    marking, clearing = sources["objects"], sources["depth"]
    assert (marking["marking"], marking["clearing"], clearing["marking"], clearing["clearing"]) == (
        True,
        False,
        False,
        True,
    )
    assert clearing["raytrace_max_range"] > marking["obstacle_max_range"]


def test_the_prompts_of_the_sample_are_its_classes_and_the_nodes_parameters():
    pytest.importorskip("rclpy")
    from objloc_ros.nodes.parameter_docs import TABLES

    document = yaml.safe_load((CONFIG / "semantic_prompts.yaml").read_text())
    values = document["/**/segmentation"]["ros__parameters"]
    TABLES["segmentation"].check(values)
    source = read("semantic_prompts.yaml", "semantic_layer")["camera"]
    assert values["prompts"] == [name for kind in source["class_types"] for name in source[kind]["classes"]]


def test_the_samples_are_installed():
    setup = (CONFIG.parents[1] / "setup.py").read_text()
    assert 'files_in("config/nav2")' in setup
