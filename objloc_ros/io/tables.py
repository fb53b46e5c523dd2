"""Tables as text: aligned columns for a terminal, and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

Rows = Sequence[Sequence[object]]


def text_table(rows: Rows, *, left: int | None = None) -> str:
    """Align the columns of a table, two blanks apart.

    Args:
        rows: As many cells each; the header, if there is one, is the first.
        left: How many columns are flush left; the others are flush right. None for all.

    Returns:
        A line per row, without blanks at its end.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    left = len(widths) if left is None else left
    aligned = (
        [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in texts
    )
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def markdown_table(header: Sequence[str], rows: Rows, *, left: int | None = None) -> str:
    """Write a table in GitHub's Markdown; the cells are taken as they are.

    Args:
        header: Names of the columns.
        rows: As many cells each.
        left: How many columns are flush left; the others are flush right. None for all.
    """
    left = len(header) if left is None else left
    rules = ["---" if i < left else "---:" for i in range(len(header))]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (header, rules, *rows))
