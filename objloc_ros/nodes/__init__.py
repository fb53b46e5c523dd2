"""ROS 2 nodes: cameras in, messages out."""
