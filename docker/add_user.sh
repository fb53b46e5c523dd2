#!/usr/bin/env bash
# Make the user `objloc`, who owns /weights. usage: add_user.sh ID
# The id should be that of the user who runs the camera: Fast DDS shares memory between processes of one user.
set -euo pipefail
id=$1
if taken=$(getent passwd "$id" | cut -d: -f1) && [[ -n "$taken" ]]; then
    userdel --remove "$taken" # Ubuntu's images have had a user of their own with id 1000 since 24.04
fi
useradd --create-home --shell /bin/bash --uid "$id" --groups video objloc
install -d -o objloc /weights
