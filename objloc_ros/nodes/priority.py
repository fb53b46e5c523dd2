"""Low priority for work that can wait: Linux's SCHED_IDLE policy, which each thread has for itself.

Nice values do not achieve that: a thread that wakes up waits for the end of a nicer one's time slice, and a network on
two threads wakes up some hundred times per frame. Elsewhere than on Linux nothing is done.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def lower_process_priority() -> None:
    """Let all threads of this process, and those that they will start, run only when no other work is waiting."""
    tasks = Path("/proc/self/task")
    for task in map(int, os.listdir(tasks) if tasks.is_dir() else ()):
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            os.sched_setscheduler(task, os.SCHED_IDLE, os.sched_param(0))


def lower_thread_priority() -> None:
    """Let the calling thread run only when no other work is waiting, in this process or elsewhere."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
