#!/bin/sh
# Say in one message what this machine lacks for setting up the environment, and how Debian and Ubuntu provide it.
# usage: preflight.sh PYTHON FREE_GB_NEEDED
set -eu
python=$1
need_gb=$2
missing=""

system="$(uname -s) on $(uname -m)"
if [ "$system" != "Linux on x86_64" ]; then
    echo "objloc_ros: no ROS 2 wheels for $system; \`objloc detect\` works there: docs/install.md, Without ROS" >&2
    exit 1
fi

lacks() { missing="$missing$(printf '  - %-46s %s' "$1" "$2")\n"; }

if ! command -v "$python" >/dev/null 2>&1; then
    lacks "Python 3.10-3.13: '$python' is not there" "(apt install python3 python3-venv python3-dev)"
elif ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'; then
    version=$("$python" -c 'import platform; print(platform.python_version())')
    lacks "Python 3.10-3.13: '$python' is $version" "(choose another: make PYTHON=python3.12)"
else
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        lacks "the venv module of Python $version" "(apt install python$version-venv)"
    [ -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
        lacks "the headers of Python $version, Python.h" "(apt install python$version-dev)"
fi
command -v gcc >/dev/null 2>&1 || lacks "the C compiler gcc" "(apt install gcc)"
command -v g++ >/dev/null 2>&1 || lacks "the C++ compiler g++" "(apt install g++)"

free_gb=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1048576))
[ "$free_gb" -ge "$need_gb" ] ||
    lacks "disk: $need_gb GB free here, there are $free_gb GB" "(PyTorch and ROS take 5.5 GB, without CUDA less; unpacking more)"

if [ -n "$missing" ]; then
    printf 'objloc_ros cannot be set up yet. This machine lacks:\n%b' "$missing" >&2
    exit 1
fi
