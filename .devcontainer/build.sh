#!/usr/bin/env bash
# Build the mounted package with the environment's Python; every new shell finds ROS and the result.
set -eo pipefail
cd /ws
# shellcheck disable=SC1090
source "/opt/ros/$ROS_DISTRO/setup.bash"
/opt/objloc/venv/bin/python -m colcon build --symlink-install --packages-select objloc_ros
# shellcheck disable=SC2016
line='source /opt/ros/$ROS_DISTRO/setup.bash && source /ws/install/local_setup.bash && source /opt/objloc/venv/bin/activate'
grep -qxF "$line" ~/.bashrc || echo "$line" >> ~/.bashrc
