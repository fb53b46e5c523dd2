"""ROS 2 nodes: cameras in, messages out."""

METHOD_NODES = ("found", "discovery", "segmentation")
"""Names of the nodes that answer images, which are also those of their modules and executables."""
