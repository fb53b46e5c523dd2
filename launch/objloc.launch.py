"""Object localization on one camera.

ros2 launch objloc_ros objloc.launch.py camera:=/front/image_raw methods:=found,segmentation prompts:="car, tree"
ros2 launch objloc_ros objloc.launch.py camera:=/front/image_raw methods:=discovery method:=detector
ros2 launch objloc_ros objloc.launch.py camera:=/front/image_raw depth:=/front/aligned_depth/image_raw

The nodes live in the camera's namespace (here ``/front/found``), so that their topics do not depend on how processes
are laid out. Empty arguments leave a setting to the parameter file.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch_ros.actions import Node

from objloc_ros.nodes import METHOD_NODES, launching
from objloc_ros.types import split_prompts

CONFIG = Path(__file__).parent.parent / "config"

ARGUMENTS = (
    DeclareLaunchArgument("camera", default_value="/camera/image_raw", description="Image topic of the camera."),
    DeclareLaunchArgument(
        "methods", default_value="found", description=f"Comma-separated, of: {', '.join(METHOD_NODES)}."
    ),
    DeclareLaunchArgument(
        "prompts",
        default_value="",
        description="What segmentation looks for, comma-separated: 'red car, traffic cone'.",
    ),
    DeclareLaunchArgument(
        "depth",
        default_value="",
        description="Topic of depth images registered to the camera's, or its .../compressedDepth: starts a locate "
        "node, which places the objects of the first method.",
    ),
    DeclareLaunchArgument(
        "camera_info",
        default_value="",
        description="Topic that describes the depth images; empty: the one beside them.",
    ),
    DeclareLaunchArgument(
        "target_frame", default_value="", description="Frame of the places, by tf2; empty: the depth images' own."
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the nodes; empty: the camera's."),
    DeclareLaunchArgument(
        "params_file", default_value="", description="ROS parameter file for all nodes; empty: each one's preset."
    ),
    *launching.NODE_ARGUMENTS,
    *launching.PROCESS_ARGUMENTS,
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and postpone the rest until they have values."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=launch_camera)])


def launch_camera(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the environment and one node per method for the camera."""
    given = {argument.name: context.launch_configurations[argument.name].strip() for argument in ARGUMENTS}
    camera = parse_topic(given["camera"])
    namespace = choose_namespace(camera, given["namespace"])
    methods = parse_methods(given["methods"])
    settings = launching.read_settings(given, methods)
    remappings = [("image", camera), ("image/compressed", f"{camera}/compressed")]
    nodes = [
        Node(
            package="objloc_ros",
            executable=method,
            name=method,
            namespace=namespace,
            parameters=[
                launching.check_file(given["params_file"] or str(CONFIG / f"{method}.yaml")),
                settings | (parse_prompts(given["prompts"]) if method == "segmentation" else {}),
            ],
            remappings=remappings,
            output="screen",
            **launching.read_process_options(given),
        )
        for method in methods
    ]
    nodes += make_locate(given, namespace, methods[0], settings)
    return [*launching.make_profile_actions(context, CONFIG / "fastdds_shm.xml"), *nodes]


def make_locate(
    given: dict[str, str], namespace: str, method: str, settings: dict[str, str | bool]
) -> list[LaunchDescriptionEntity]:
    """Return the node that places the objects of a method's node; none without depth images."""
    if not given["depth"]:
        beside = [name for name in ("camera_info", "target_frame") if given[name]]
        if beside:
            raise ValueError(f"{' and '.join(beside)} is for the locate node, which depth starts: set depth, too")
        return []
    depth, transport, _ = given["depth"].partition("/compressedDepth")
    depth = parse_topic(depth, "depth")
    mask = "instance_mask" if method == "discovery" else "mask"
    own = {name: settings[name] for name in ("autostart", "use_sim_time") if name in settings}
    if transport:
        own["depth_transport"] = "compressedDepth"
    if given["target_frame"]:
        own["target_frame"] = given["target_frame"]
    return [
        Node(
            package="objloc_ros",
            executable="locate",
            name="locate",
            namespace=namespace,
            parameters=[launching.check_file(given["params_file"] or str(CONFIG / "locate.yaml")), own],
            remappings=[
                ("detections", f"{method}/detections"),
                ("mask", f"{method}/{mask}"),
                ("label_info", f"{method}/label_info"),
                ("depth", depth),
                ("depth/compressedDepth", f"{depth}/compressedDepth"),
                ("camera_info", given["camera_info"] or f"{depth.rpartition('/')[0]}/camera_info"),
            ],
            output="screen",
            **launching.read_process_options(given),
        )
    ]


def parse_topic(text: str, argument: str = "camera") -> str:
    """Return the absolute name of an image topic: relative to the nodes' namespace it would hold that twice."""
    name = "/" + text.strip("/")
    if name == "/":
        raise ValueError(f"{argument} must name an image topic such as /front/image_raw, got {text!r}")
    return name


def choose_namespace(camera: str, given: str) -> str:
    """Return the namespace asked for, else the camera's."""
    return "/" + (given or camera.rpartition("/")[0]).strip("/")


def parse_methods(text: str) -> list[str]:
    """Split ``found,…`` (or a YAML list of them) and check every name."""
    names = launching.split_names(text)
    unknown = [name for name in names if name not in METHOD_NODES]
    if unknown or len(set(names)) != len(names):
        raise ValueError(f"methods must be different ones of {', '.join(METHOD_NODES)}; got {text!r}")
    return names


def parse_prompts(text: str) -> dict[str, list[str]]:
    """Return the prompts of ``red car, traffic cone``; empty leaves them to the parameter file."""
    return {"prompts": split_prompts(text)} if text else {}
