"""`objloc demo` whose `found` node is another program: `demo_driver.py PROGRAM [ARGUMENTS] -- DEMO_ARGUMENTS`."""

import sys

from objloc_ros.cli import demo
from objloc_ros.cli.main import main

if __name__ == "__main__":
    end = sys.argv.index("--")
    demo.FOUND = (sys.executable, *sys.argv[1:end])
    sys.exit(main(["demo", *sys.argv[end + 1 :]]))
