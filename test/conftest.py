"""What tests of every kind share."""

import fcntl
import random
import signal
import tempfile
from pathlib import Path

import pytest

# A background job inherits SIGINT as ignored and would hand that on to the processes that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
