"""The priority of a node's process."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, threading
os.nice({own})
from objloc_ros.nodes.process import give_way
threading.Thread(target=threading.Event().wait, daemon=True).start()
give_way({nice})
print({{os.getpriority(os.PRIO_PROCESS, int(task)) for task in os.listdir("/proc/self/task")}})
"""


@pytest.mark.parametrize(("own", "nice", "after"), [(0, 0, 0), (0, 10, 10), (15, 10, 15)])
def test_all_threads_give_way_but_never_take_more(own, nice, after):
    if not Path("/proc/self/task").is_dir():
        pytest.skip("the system tells no priorities per thread")
    program = [sys.executable, "-c", PROGRAM.format(own=own, nice=nice)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == (str({after}), 0), done.stderr
