"""Foreign text made harmless: a topic's name as a path, a message as one line for a terminal or a log."""

from __future__ import annotations

import hashlib
import re

MAX_PATH_LETTERS = 200
"""Longest path made of foreign text; a file system allows 255 bytes for each part."""

MAX_LINE_LETTERS = 2000
"""Longest line made of foreign text."""


def sanitize_path(name: str) -> str:
    """Make a relative path of a foreign name that may be any text, such as that of a topic in a bag.

    Args:
        name: Parts are separated by slashes.

    Returns:
        At most `MAX_PATH_LETTERS` and a hash. No part is empty or hidden (so none is `..`), and all are of ASCII
        letters, digits, `_`, `-` and `.`. The hash is there if anything but slashes at the ends had to be changed, as
        then another name may look the same.
    """
    given = name.strip("/")
    parts = (re.sub(r"[^\w.-]", "_", part, flags=re.ASCII).lstrip(".") for part in given.split("/"))
    path = "/".join(part for part in parts if part)[:MAX_PATH_LETTERS].rstrip("/")
    if path and path == given:
        return path
    mark = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{path}_{mark}" if path else mark


def sanitize_line(text: str) -> str:
    """Make one line of foreign text: nothing in it moves a cursor, starts a line or fails to be encoded.

    Returns:
        The text with what cannot be printed as escapes, shortened in the middle to about `MAX_LINE_LETTERS`.
    """
    if len(text) > MAX_LINE_LETTERS:
        half = MAX_LINE_LETTERS // 2
        text = f"{text[:half]} … ({len(text) - 2 * half} characters left out) … {text[-half:]}"
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
