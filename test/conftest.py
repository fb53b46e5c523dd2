"""What tests of every kind share."""

import fcntl
import functools
import os
import random
import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import wait_for

from objloc_ros.backbones.registry import REGISTRY

# Threads of OpenMP that wait for each other in a loop keep those off the processor that they wait for, where it is
# wanted by others: ten times as long and as much. Read when the library is loaded, so before anything else is.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A background job inherits SIGINT as ignored and would hand that on to the processes that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def load_once(load):
    """A loader of networks that loads each file in the registry only once; others as ever."""
    loaded = {}

    @functools.wraps(load)
    def load_known(name, *, path=None, device="cpu"):
        entry = REGISTRY.get(name)
        if path is not None or str(device) != "cpu" or entry is None or not entry.path.is_file():
            return load(name, path=path, device=device)
        key = name, entry.path, entry.path.stat().st_mtime_ns
        if key not in loaded:
            loaded[key] = load(name, path=path, device=device)
        return loaded[key]

    return load_known


@pytest.fixture(scope="session", autouse=True)
def networks():
    """Pipelines of all tests share the registered networks, which are frozen."""
    from objloc_ros.engine import loader, prompts

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((loader, "load_backbone"), (loader, "load_clip_image"), (prompts, "load_clip_text")):
            patch.setattr(module, name, load_once(getattr(module, name)))
        yield


@pytest.fixture(scope="module")
def domain():
    """A ROS domain of its own for each module that talks over DDS, even while other test runs go on on this machine."""
    for number in random.SystemRandom().sample(range(1, 60), 59):
        lock = open(Path(tempfile.gettempdir()) / f"objloc_ros_domain_{number}.lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        yield number
        lock.close()
        return
    pytest.fail("all ROS domains are taken")


@pytest.fixture(scope="module")
def context(domain):
    """A ROS context for nodes in this process, in that domain."""
    rclpy = pytest.importorskip("rclpy")
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    yield context
    context.try_shutdown()


@contextmanager
def start_cluster(*cpus):
    """A Ray cluster on this machine of nodes with so many processors each, and a head that does no work.

    It misses a lost node after 2.5 seconds of silence; Ray's own 15 would be most of a test's time. Its workers are as
    nice as the tests: Ray's niceness of 15 leaves them a few percent of a busy machine. It has done a task: those that
    a driver gives it before the head has heard of the nodes wait for minutes.
    """
    config = {"health_check_period_ms": 500, "health_check_failure_threshold": 5, "worker_niceness": 0}
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": config}
    )
    try:
        for number in cpus:
            made.add_node(num_cpus=number)
        with ray.init(address=made.address, log_to_driver=False, logging_level="ERROR"):
            task = ray.remote(lambda: None)
            wait_for(lambda: ray.wait([task.remote()], timeout=1.0)[0], "a task of the cluster")
        yield made
    finally:
        made.shutdown()


@pytest.fixture
def cluster():
    """A Ray cluster of two nodes for this test alone, which may lose the last one of `list_all_nodes()`."""
    with start_cluster(1, 1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def steady_cluster():
    """A Ray cluster with a node of two processors, which nobody may lose."""
    with start_cluster(2) as cluster:
        yield cluster
