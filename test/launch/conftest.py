"""Launch files under the real launch and launch_ros, around real nodes."""

import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
import rclpy
from ament_index_python import PackageNotFoundError, get_package_prefix

sys.path.insert(0, str(Path(__file__).parent))
from launched import DOMAIN, Launched
from rclpy.executors import SingleThreadedExecutor


@pytest.fixture(scope="module", autouse=True)
def installed():
    try:
        get_package_prefix("objloc_ros")
    except PackageNotFoundError as error:
        pytest.fail(f"{error}; `make setup` installs the package, and so do `colcon build` and sourcing its result")


@pytest.fixture
def start_file(tmp_path):
    """Launch a file: `start_file("objloc.launch.py", *arguments, **environment)`."""
    running = []

    def _start(file, *arguments, **environment):
        running.append(Launched(tmp_path / f"{len(running)}.log", file, *arguments, **environment))
        return running[-1]

    yield _start
    for launched in running:
        if launched.process.poll() is None:
            launched.end()


@pytest.fixture
def peer():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("peer", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join()
    node.destroy_node()
    context.shutdown()
