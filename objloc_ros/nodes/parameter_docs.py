"""The parameter tables of all nodes as Markdown: `python -m objloc_ros.nodes.parameter_docs` prints them."""

from __future__ import annotations

import sys

from objloc_ros.nodes.params import Table


def tables() -> dict[str, Table]:
    """Parameter tables of all nodes, by node name."""
    from objloc_ros.nodes import discovery, found, image_source, perception, segmentation

    nodes = {
        "found": found,
        "discovery": discovery,
        "segmentation": segmentation,
        "perception": perception,
        "image_source": image_source,
    }
    return {name: module.PARAMETERS for name, module in nodes.items()}


def marked(name: str, table: Table) -> str:
    """Put the table between the markers that the README carries."""
    return f"<!-- parameters:{name} -->\n{table.markdown()}\n<!-- /parameters -->"


def main() -> int:
    """Print every node's table as Markdown."""
    for name, table in tables().items():
        sys.stdout.write(f"{marked(name, table)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
