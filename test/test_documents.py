"""Commands in the documents are such that the programs understand them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from objloc_ros.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OWN_RECORDINGS = ROOT / "docs/train_on_your_recordings.md"


def read_commands(page: Path) -> list[list[str]]:
    """The commands of a page's shell blocks, in words; those joined by && one by one, comments left out."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(part, comments=True) for line in lines for part in line.split(" && ") if part.strip()]


def find_own(page: Path) -> list[list[str]]:
    """Arguments of this package's command on a page."""
    return [words[1:] for words in read_commands(page) if words and words[0].endswith("objloc")]


OBJLOC = [(page, words) for page in PAGES for words in find_own(page) if "..." not in words]
LAUNCH = [
    (page, words[3:])
    for page in PAGES
    for words in read_commands(page)
    if words[:3] == ["ros2", "launch", "objloc_ros"]
]


@pytest.mark.parametrize(("page", "words"), OBJLOC, ids=[f"{page.stem}-{' '.join(words)}" for page, words in OBJLOC])
def test_the_command_line_takes_them(page: Path, words: list[str]) -> None:
    build_parser(words).parse_args(words)


@pytest.mark.parametrize(("page", "words"), LAUNCH, ids=[f"{page.stem}-{' '.join(words)}" for page, words in LAUNCH])
def test_launch_files_declare_their_arguments(page: Path, words: list[str]) -> None:
    file, *arguments = words
    texts = [(ROOT / "launch" / file).read_text(), (ROOT / "objloc_ros/nodes/launching.py").read_text()]
    if file == "replay.launch.py":
        texts.append((ROOT / "launch/objloc.launch.py").read_text())
    declared = set(re.findall(r"DeclareLaunchArgument\(\s*\"(\w+)\"", "\n".join(texts)))
    assert declared >= {argument.partition(":=")[0] for argument in arguments}


def test_pages_are_read() -> None:
    assert len(OBJLOC) > 30
    assert len(LAUNCH) > 3
    with pytest.raises(SystemExit):
        build_parser(["detect", "--no-such-flag"]).parse_args(["detect", "--no-such-flag"])


def test_five_commands_lead_from_recordings_to_the_robot() -> None:
    commands = [words for words in read_commands(OWN_RECORDINGS) if words][:5]
    assert [" ".join(words[:2]) for words in commands] == [
        "objloc prelabel",
        "objloc prelabel",
        "objloc train",
        "objloc bag",
        "ros2 launch",
    ]
