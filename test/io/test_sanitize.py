"""Foreign text made harmless."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objloc_ros.io.sanitize import MAX_LINE_LETTERS, MAX_PATH_LETTERS, sanitize_line, sanitize_path

HOSTILE = (
    "/../../../ESCAPED/x",
    "..",
    "/",
    "",
    "//front//image",
    "/front/.ssh/id",
    "/front\\image",
    "/fr\0nt",
    "/a" * 5000,
    "/" + "x" * 5000,
    "/front/image\n\x1b[2J",
    "/кам/image",
    "/\udc80",
)


@pytest.mark.parametrize("name", ["/front/image_raw", "front/image_raw", "/a/b-2/c.d"])
def test_a_plain_topic_is_its_own_path(name: str) -> None:
    assert sanitize_path(name) == name.strip("/")


@given(st.one_of(st.sampled_from(HOSTILE), st.text(), st.text(alphabet="./\\\0~a", max_size=30)))
def test_a_path_never_leaves_its_folder(name: str) -> None:
    path = Path(sanitize_path(name))
    assert not path.is_absolute()
    assert path.parts
    assert not any(part.startswith(".") for part in path.parts)
    assert str(path).isascii()
    assert str(path).isprintable()
    assert len(str(path)) <= MAX_PATH_LETTERS + 9


def test_different_names_give_different_paths() -> None:
    names = [*HOSTILE, "/ESCAPED/x", "/front/image", "/ssh/id", "/front_image", "/___/image"]
    assert len({sanitize_path(name) for name in names}) == len(names)


@given(st.text())
def test_a_line_is_one_line_and_can_be_printed(text: str) -> None:
    line = sanitize_line(text)
    assert line.isprintable()
    line.encode()


def test_printable_text_stays_as_it_is() -> None:
    assert sanitize_line("Straße 5: 日本語 – “x”") == "Straße 5: 日本語 – “x”"


def test_escape_sequences_are_shown_and_not_obeyed() -> None:
    assert sanitize_line("a\x1b[2J\nb\udc80") == "a\\x1b[2J\\nb\\udc80"


def test_a_long_line_keeps_both_ends() -> None:
    line = sanitize_line("a" * 50_000 + "b" * 50_000)
    assert len(line) < MAX_LINE_LETTERS + 60
    assert line.startswith("aaa")
    assert line.endswith("bbb")
    assert "98000 characters left out" in line
