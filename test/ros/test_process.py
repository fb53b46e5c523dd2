"""The end of a process: ordered, and without a last walk of the garbage collector through everything imported."""

import subprocess
import sys

ENDS = """
import atexit, gc, os, signal, sys
import rclpy
from objloc_ros.nodes import process

def make_groups():
    node = rclpy.create_node("ends")
    node.create_timer(0.01, lambda: os.kill(os.getpid(), signal.SIGINT))
    return [[node]]

atexit.register(lambda: print(f"{gc.get_freeze_count()} frozen, {len(gc.get_objects())} left to walk"))
sys.exit(process.run_groups(make_groups, []))
"""


def test_nothing_is_left_to_walk_at_the_end():
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    frozen, left = (int(word) for word in done.stdout.split() if word.isdigit())
    assert left < frozen / 10
