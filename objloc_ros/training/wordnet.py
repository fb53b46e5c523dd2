"""WordNet's nouns, read from its database files: Miller, "WordNet: A Lexical Database for English", CACM 38 (1995)."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from objloc_ros.errors import InputError

HYPERNYM_POINTERS = ("@", "@i")
"""To what a synset is a kind of, or an instance of."""


@dataclass(frozen=True)
class Sense:
    """One meaning of a noun.

    Args:
        synset: Its offset in `data.noun`.
        count: How often it was met in the texts that WordNet's authors tagged.
    """

    synset: int
    count: int


class WordNet:
    """Nouns, their senses and what these are kinds of.

    Args:
        folder: With `data.noun`, `index.noun`, `cntlist.rev` and `noun.exc` of version 3.0; Debian's `wordnet-base`
            has them in /usr/share/wordnet.

    Raises:
        InputError: If one of them cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.words: dict[int, list[str]] = {}
        """Words of each synset, capitals kept."""
        self._hypernyms: dict[int, list[int]] = {}
        self._synsets: dict[str, list[int]] = {}
        self._counts: dict[tuple[str, int], int] = defaultdict(int)
        self.plurals: dict[str, str] = {}
        """Irregular plurals and their singulars."""
        try:
            self._read(folder)
        except (OSError, ValueError, IndexError) as error:
            raise InputError(f"{folder} does not hold WordNet's database: {error}") from error

    def _read(self, folder: Path) -> None:
        for line in _read_lines(folder / "data.noun"):
            fields = line.partition(" | ")[0].split()
            synset, words, pointers = int(fields[0]), int(fields[3], 16), 4 + 2 * int(fields[3], 16)
            self.words[synset] = [fields[4 + 2 * i].replace("_", " ") for i in range(words)]
            quads = [
                fields[start : start + 4] for start in range(pointers + 1, pointers + 1 + 4 * int(fields[pointers]), 4)
            ]
            self._hypernyms[synset] = [int(target) for kind, target, _, _ in quads if kind in HYPERNYM_POINTERS]
        for line in _read_lines(folder / "index.noun"):
            fields = line.split()
            self._synsets[fields[0].replace("_", " ")] = [int(field) for field in fields[-int(fields[2]) :]]
        for line in _read_lines(folder / "cntlist.rev"):
            key, number, count = line.split()
            word, _, place = key.partition("%")
            if place.startswith("1:"):  # a noun
                self._counts[word.replace("_", " "), int(number)] += int(count)
        for line in _read_lines(folder / "noun.exc"):
            plural, singular = line.split()[:2]
            self.plurals[plural.replace("_", " ")] = singular.replace("_", " ")

    @property
    def nouns(self) -> list[str]:
        """All nouns, in lower case."""
        return list(self._synsets)

    def senses(self, noun: str) -> list[Sense]:
        """Return the meanings of a noun, the most frequent first; none if it is unknown."""
        synsets = self._synsets.get(noun.lower(), [])
        return [Sense(synset, self._counts[noun.lower(), i]) for i, synset in enumerate(synsets, start=1)]

    def ancestors(self, synset: int) -> list[int]:
        """Return a synset and all that it is a kind of, the nearest first."""
        found = [synset]
        for each in found:  # grows while it is read
            found += [above for above in self._hypernyms[each] if above not in found]
        return found


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a database file without its licence, which is indented."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith(" ")]
