"""`objloc` where no file can grow beyond a number of bytes: `full_disk_process.py BYTES ARGUMENTS`.

The kernel refuses the write in its middle, as on a full disk.
"""

import resource
import signal
import sys

from objloc_ros.cli.main import main

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
