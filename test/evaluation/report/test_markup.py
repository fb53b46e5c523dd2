"""Markdown and LaTeX to the letter, JSON for programs, and nothing that breaks out of a cell."""

from __future__ import annotations

import json

import pytest

from objloc_ros.evaluation.report.markup import escape_latex, escape_markdown, format_latex, format_markdown, to_json
from objloc_ros.evaluation.report.published import load_rows
from objloc_ros.evaluation.report.tables import assemble

SLIDES = load_rows()[0].source

MARKDOWN = """\
## Localisation of one object, CorLoc

| method | backbone | settings | VOC07 |
| --- | --- | --- | ---: |
| DINO-seg | dino_vits16 |  | 45.0 / 45.8 |
| LOST | dino_vits16 | k_patches 50 | 58.0 (n=200) / – |

- Percent, measured / published.
- Published figures: @SLIDES@.
- n: number of images of a run that is not known to be of the whole data set (VOC07 has 5011).

## Not in the tables

- In no table, for want of a column: odd
- Could not be used: cut/result.json: not JSON
"""

LATEX = r"""% needs \usepackage{booktabs}

\begin{table}
\centering
\caption{Localisation of one object, CorLoc}
\begin{tabular}{lllr}
\toprule
method & backbone & settings & VOC07 \\
\midrule
DINO-seg & dino\_vits16 &  & 45.0 / 45.8 \\
LOST & dino\_vits16 & k\_patches 50 & 58.0 (n=200) / -- \\
\bottomrule
\end{tabular}
\par\footnotesize
Percent, measured / published.\par
Published figures: @SLIDES@.\par
n: number of images of a run that is not known to be of the whole data set (VOC07 has 5011).\par
\end{table}

% In no table, for want of a column: odd

% Could not be used: cut/result.json: not JSON
"""

GROUPED = r"""\begin{tabular}{llrrr}
\toprule
 &  & \multicolumn{2}{c}{VOC07} & \multicolumn{1}{c}{my\_photos} \\
\cmidrule(lr){3-4} \cmidrule(lr){5-5}
method & backbone & AP50 & AR100 & AP50 \\
\midrule
MaskCut & tiny & 40.0 / -- & 60.0 / -- & 10.0 (n=3) / -- \\
\bottomrule
"""


@pytest.fixture
def report(run):
    runs = [
        run("dino_seg", metrics={"corloc": 0.45}),
        run(options={"k_patches": 50}, images=200, metrics={"corloc": 0.58}),
        run(metrics={"steps": 1.0}, folder="odd"),
    ]
    return assemble(runs, {"cut/result.json": "not JSON"})


def test_markdown_to_the_letter(report) -> None:
    assert format_markdown(report) == MARKDOWN.replace("@SLIDES@", SLIDES)


def test_latex_to_the_letter(report) -> None:
    assert format_latex(report) == LATEX.replace("@SLIDES@", escape_latex(SLIDES))


def test_latex_groups_the_metrics_of_a_data_set(run) -> None:
    runs = [
        run("maskcut", "tiny", metrics={"ap50": 0.4, "ar100": 0.6}),
        run("maskcut", "tiny", dataset="my_photos", images=3, metrics={"ap50": 0.1}),
    ]
    assert GROUPED in format_latex(assemble(runs))


def test_json_has_fractions_and_sources(report) -> None:
    document = json.loads(json.dumps(to_json(report), allow_nan=False))
    dino_seg, lost = document["tables"]["corloc"]
    assert lost == {
        "method": "lost",
        "backbone": "dino_vits16",
        "settings": "k_patches 50",
        "cells": [{"dataset": "voc07", "metric": "corloc", "measured": 0.58, "published": None, "images": 200}],
    }
    assert dino_seg["cells"][0]["published"] == {"value": 0.458, "source": SLIDES, "variant": ""}
    assert document["left_out"] == ["odd"]
    assert document["refused"] == {"cut/result.json": "not JSON"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dino_vits16", "dino_vits16"),
        ("_emphasis_ and *more*", r"\_emphasis\_ and \*more\*"),
        ("a|b", r"a\|b"),
        ("<script>&", "&lt;script&gt;&amp;"),
        ("[link](x) `code` ~~gone~~", r"\[link\](x) \`code\` \~\~gone\~\~"),
        ("two\nlines\u202e", "two lines"),
        ("back\\slash", r"back\\slash"),
    ],
)
def test_markdown_shows_text_as_it_is(text, expected) -> None:
    assert escape_markdown(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 50 % of $x #1", r"a\_b \& 50 \% of \$x \#1"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        ("<script>|", r"\textless{}script\textgreater{}\textbar{}"),
        ("two\nlines", "two lines"),
        ("β² ± 2 – “x”", r"$\beta$$^2$ $\pm$ 2 -- ``x''"),
    ],
)
def test_latex_sets_text_as_it_is(text, expected) -> None:
    assert escape_latex(text) == expected


def test_a_hostile_name_stays_in_its_cell(run) -> None:
    report = assemble([run("x|y\n| new row |", "<b>_b_", options={"a|b": "\n"})])
    rows = [line for line in format_markdown(report).splitlines() if line.startswith("| ")]
    assert len(rows) == 3
    assert rows[2] == r"| x\|y \| new row \| | &lt;b&gt;\_b\_ | a\|b | 61.7 / – |"
