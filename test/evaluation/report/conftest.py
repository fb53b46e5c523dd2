"""Results of runs that nobody made."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from objloc_ros.evaluation.report.results import RunResult


def make_run(method="lost", backbone="dino_vits16", dataset="voc07", images=5011, **others):
    """A run on VOC07 unless said otherwise."""
    fields = {"split": "", "kind": "boxes", "metrics": {"corloc": 0.6171}, "folder": "run"}
    return RunResult(method=method, backbone=backbone, dataset=dataset, images=images, **{**fields, **others})


@pytest.fixture
def run():
    """Makes results."""
    return make_run


class Outline(HTMLParser):
    """What a page consists of; fails where an element is closed that is not open, or not closed."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self.images: list[dict[str, str]] = []
        self.addresses: list[str] = []
        self.figures = self.svgs = 0
        self.text = ""

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [given[name] for name in ("href", "src", "action") if not self._inside(given.get(name))]
        self.addresses += [tag] if tag in ("script", "link", "iframe", "object") else []
        self.figures += tag == "figure"
        self.svgs += tag == "svg"
        self.images += [given] if tag == "img" else []
        self.headings += [""] if tag in ("h1", "h2") else []
        self.rows += [[]] if tag == "tr" else []
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    @staticmethod
    def _inside(address):
        return address is None or address.startswith(("#", "data:"))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open[-1:] in (["h1"], ["h2"]):
            self.headings[-1] += data
        elif self.open[-1:] in (["td"], ["th"]):
            self.rows[-1][-1] += data


@pytest.fixture
def outline():
    """Reads a page and checks that it is well formed."""

    def read(page):
        seen = Outline()
        seen.feed(page)
        seen.close()
        assert seen.open == []
        assert len(seen.ids) == len(set(seen.ids))
        assert not re.search(r"https?:|url\((?!#)|@import", page)
        return seen

    return read
