#!/usr/bin/env bash
# Source ROS and, where it has been built, the package; then run what was asked for.
set -eo pipefail # not -u: ROS's own scripts read variables that are not set
# shellcheck disable=SC1090
source "/opt/ros/$ROS_DISTRO/setup.bash"
for workspace in /opt/objloc/install /ws/install; do
    # shellcheck disable=SC1091
    if [[ -f "$workspace/local_setup.bash" ]]; then
        source "$workspace/local_setup.bash"
    fi
done
exec "$@"
