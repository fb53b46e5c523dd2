"""`docs/parameters.md`, made from the tables of the nodes: `python -m objloc_ros.nodes.parameter_docs` prints it."""

from __future__ import annotations

import sys

from objloc_ros.engine.config import HEADS
from objloc_ros.nodes import image_source, locate, perception
from objloc_ros.nodes.params import Table, to_yaml
from objloc_ros.options import Options, describe

TABLES: dict[str, Table] = {
    **{name: adapter.parameters for name, adapter in perception.ADAPTERS.items()},
    "locate": locate.PARAMETERS,
    "perception": perception.PARAMETERS,
    "image_source": image_source.PARAMETERS,
}
"""Parameter tables of all nodes, by node name."""

HEAD = """# Parameters and options

<!-- Made by `python -m objloc_ros.nodes.parameter_docs > docs/parameters.md`; change the options, not this file. -->

`ros2 param set` changes a live parameter of a running node, from the next frame on; the others are read at the start.
Ranges include their ends unless they say otherwise. A value that is not allowed is refused, with the reason.
"""

NOTES = {
    "perception": "`<camera>` stands for a name in `cameras`; the nodes' own parameters go to the nodes.",
    "image_source": (
        "`ros2 run objloc_ros image_source --ros-args -p source:=video.mp4 -r image:=/front/image_raw` plays a camera "
        "for tests."
    ),
}

METHODS_HEAD = """## Options of the methods

On the command line (`objloc detect --method lost --k-patches 50`) and in Python
(`pipeline.configure("lost", k_patches=50)`). Nodes have those that their tables above name.
"""


def lay_out_options(kind: type[Options]) -> str:
    """Lay the options of a method out as a Markdown table."""
    rows = ["| option | type | default | allowed | meaning |", "|---|---|---|---|---|"]
    for option in describe(kind).values():
        default = option.unset if option.default is None else f"`{to_yaml(option.default)}`"
        cells = (f"`{option.name}`", option.kind.__name__, default)
        rows.append(f"| {' | '.join((*cells, option.allowed, option.help))} |")
    return "\n".join(rows)


def make_document() -> str:
    """Return the whole of `docs/parameters.md`."""
    parts = [HEAD]
    for name, table in TABLES.items():
        note = f"{NOTES[name]}\n\n" if name in NOTES else ""
        parts.append(f"## Node `{name}`\n\n{note}{table.markdown()}\n")
    parts.append(METHODS_HEAD)
    parts += [f"### `{method}`\n\n{lay_out_options(kind)}\n" for method, kind in HEADS.items()]
    return "\n".join(parts)


def main() -> int:
    """Print the document."""
    sys.stdout.write(make_document())
    return 0


if __name__ == "__main__":
    sys.exit(main())
