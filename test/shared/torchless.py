"""Run a module of the package as in a light installation: what it lacks cannot be imported.

python torchless.py MODULE [ARGUMENTS...]
"""

import runpy
import sys

ABSENT = ("torch", "torchvision", "timm", "open_clip", "safetensors", "scipy", "faster_coco_eval")

if __name__ == "__main__":
    sys.modules.update(dict.fromkeys(ABSENT))  # importing None is an error
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
