"""Run the demo and keep its contact sheet as the README's first picture.

python docs/demo_sheet.py docs/    # demo.jpg
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from objloc_ros.cli.main import main
from objloc_ros.io.media import read_image, write_image

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        code = main(["demo", "--out", folder])
        if code == 0:
            write_image(Path(sys.argv[1]) / "demo.jpg", read_image(Path(folder) / "contact_sheet.png"))
    sys.exit(code)
