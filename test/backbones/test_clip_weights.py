"""Weights of CLIP's towers: each read without the other from any usual layout, and refused where it does not fit."""

import pickle
from pathlib import Path

import pytest
import torch
from open_clip.model import CLIP
from safetensors import safe_open
from safetensors.torch import save_file

from objloc_ros.backbones import weights
from objloc_ros.backbones.clip import CLIP_SPECS, ClipSpec
from objloc_ros.backbones.clip_text import SPECIAL, byte_pairs
from objloc_ros.backbones.store import record_hash
from objloc_ros.backbones.weights import load_clip_image, load_clip_text, read_some
from objloc_ros.errors import ParameterError, WeightsError

SIZES = {
    "patch": 4,
    "side": 8,
    "width": 12,
    "layers": 2,
    "heads": 2,
    "embed_dim": 6,
    "text_width": 8,
    "text_layers": 1,
    "text_heads": 2,
    "context": 7,
}
LARGE = ("clip_vitb32", "clip_vitb16", "clip_vitb32_openai", "clip_vitb16_openai")
KNOWN = torch.tensor(sorted(byte_pairs().encode("a red object")))
LOAD = {"image": load_clip_image, "text": load_clip_text}


@pytest.fixture(autouse=True)
def specs(monkeypatch):
    """Two small models; the large ones become small as well."""
    for name in ("small", *LARGE):
        monkeypatch.setitem(CLIP_SPECS, name, ClipSpec(**SIZES))
    monkeypatch.setitem(CLIP_SPECS, "compact", ClipSpec(**SIZES, compact=True))


def state_of(vocabulary):
    """What open_clip's own model of these sizes saves."""
    torch.manual_seed(0)
    vision = {"image_size": 8, "patch_size": 4, "width": 12, "layers": 2, "head_width": 6}
    text = {"context_length": 7, "vocab_size": vocabulary, "width": 8, "layers": 1, "heads": 2}
    return dict(CLIP(6, vision_cfg=vision, text_cfg=text).state_dict())


@pytest.fixture(scope="module")
def full():
    return state_of(49_408)


@pytest.fixture
def state(full):
    return dict(full)


@pytest.fixture
def compact():
    return {**state_of(len(KNOWN) + SPECIAL), "known_tokens": KNOWN}


def saved(path, state):
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous().clone() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def custom(state):
    """The layout of open_clip's models whose text tower is a module of its own."""
    ours = ("visual.", "logit_")
    return {key if key.startswith(ours) else f"text.{key}": value for key, value in state.items()}


LAYOUTS = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 32, "name": "a run"},
    "data parallel": lambda s: {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in s.items()}},
    "text module": custom,
    "wrapped text module": lambda s: {"state_dict": {f"module.{k}": v for k, v in custom(s).items()}},
    "OpenAI": lambda s: {
        **s,
        "input_resolution": torch.tensor(224),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    },
    "with a bias": lambda s: {**s, "logit_bias": torch.tensor(-10.0), "attn_mask": torch.zeros(7, 7)},
}


@pytest.mark.parametrize(
    ("layout", "suffix"),
    [(layout, ".pt") for layout in LAYOUTS]
    + [(layout, ".safetensors") for layout in ("bare", "text module", "OpenAI", "with a bias")],
)
def test_both_towers_load_from_the_usual_layouts(layout, suffix, state, tmp_path):
    path = saved(tmp_path / f"clip{suffix}", LAYOUTS[layout](state))
    image, text = load_clip_image("small", path=path), load_clip_text("small", path=path)
    for key, value in image.visual.state_dict().items():
        assert torch.equal(value, state[f"visual.{key}"]), key
    for key, value in text._tower.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert text.name == "small"
    for tower in (image, text._tower):
        assert not tower.training
        assert not any(parameter.requires_grad for parameter in tower.parameters())


@pytest.mark.parametrize("which", ["image", "text"])
def test_a_tower_needs_nothing_of_the_other(which, state, tmp_path):
    own = {k: v for k, v in state.items() if k.startswith("visual.") == (which == "image")}
    path = saved(tmp_path / "one.safetensors", own)
    LOAD[which]("small", path=path)
    other = "text" if which == "image" else "image"
    with pytest.raises(WeightsError, match=rf"does not hold the {other} tower of small: \d+ missing \("):
        LOAD[other]("small", path=path)


@pytest.mark.parametrize("which", ["image", "text"])
def test_only_the_wanted_tensors_are_read(which, state, tmp_path, monkeypatch):
    read = []

    class Recorder:
        """safetensors' reader, which notes what it hands out."""

        def __init__(self, *arguments, **options):
            self.file = safe_open(*arguments, **options)

        def __enter__(self):
            self.entered = self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def keys(self):
            return self.entered.keys()

        def get_tensor(self, key):
            read.append(key)
            return self.entered.get_tensor(key)

    path = saved(tmp_path / "clip.safetensors", state)
    monkeypatch.setattr(weights, "safe_open", Recorder)
    LOAD[which]("small", path=path)
    wanted = [key for key in state if key.startswith("visual.") == (which == "image") and key != "logit_scale"]
    assert sorted(read) == sorted(wanted)


def test_half_precision_is_widened(state, tmp_path):
    halves = {key: value.half() for key, value in state.items()}
    path = saved(tmp_path / "half.safetensors", halves)
    visual = load_clip_image("small", path=path).visual
    assert visual.proj.dtype == torch.float32
    assert torch.equal(visual.proj, halves["visual.proj"].float())
    assert load_clip_text("small", path=path).encode(["dog"], ["{}"]).dtype == torch.float32


def test_a_compact_text_tower_brings_its_tokens(compact, tmp_path):
    path = saved(tmp_path / "compact.safetensors", compact)
    text = load_clip_text("compact", path=path)
    assert text.tokenizer(["red zebra"])[0].tolist() == [
        2,
        3 + KNOWN.tolist().index(byte_pairs().encode("red")[0]),
        1,
        6,
        0,
        0,
        0,
    ]
    assert text.tokenizer.unknown_words("red zebra") == ["zebra"]
    assert text.encode(["red zebra", "blue dog"], ["a {}"]).shape == (2, 6)
    load_clip_image("compact", path=path)


@pytest.mark.parametrize(
    "known", [None, KNOWN[None], KNOWN[:0], torch.tensor(3), [1, 2, 3]], ids=["none", "rows", "empty", "number", "list"]
)
def test_a_compact_text_tower_without_its_tokens_is_refused(known, compact, tmp_path):
    del compact["known_tokens"]
    path = saved(tmp_path / "c.pt", compact if known is None else {**compact, "known_tokens": known})
    with pytest.raises(WeightsError, match="not hold the text tower of compact: known_tokens must list its tokens"):
        load_clip_text("compact", path=path)


def test_as_many_embeddings_as_known_tokens_are_needed(compact, tmp_path):
    path = saved(tmp_path / "c.pt", {**compact, "known_tokens": KNOWN[1:]})
    with pytest.raises(WeightsError, match=r"1 mis-shaped \(token_embedding.weight \[7, 8\] for \[6, 8\]\)"):
        load_clip_text("compact", path=path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("which", "change", "named"),
    [
        ("image", {"visual.proj": None}, r"1 missing \(proj\)"),
        ("image", {"visual.extra": torch.zeros(1)}, r"1 unexpected \(extra\)"),
        ("image", {"visual.proj": torch.zeros(12, 5)}, r"1 mis-shaped \(proj \[12, 5\] for \[12, 6\]\)"),
        ("text", {"text_projection": None}, r"1 missing \(text_projection\)"),
        ("text", {"extra": torch.zeros(1), "more": torch.zeros(1)}, r"2 unexpected \(extra, more\)"),
        ("text", {"positional_embedding": torch.zeros(77, 8)}, r"1 mis-shaped \(positional_embedding \[77, 8\] for "),
    ],
)
def test_what_does_not_fit_is_named(which, change, named, suffix, state, tmp_path):
    state = {key: value for key, value in {**state, **change}.items() if value is not None}
    path = saved(tmp_path / f"wrong{suffix}", state)
    with pytest.raises(WeightsError, match=rf"^{path} does not hold the {which} tower of small: {named}"):
        LOAD[which]("small", path=path)
    LOAD["text" if which == "image" else "image"]("small", path=path)


@pytest.mark.parametrize("content", [{}, {1: torch.zeros(1)}, {"state_dict": {}}, {"visual.proj": "text", "a": None}])
@pytest.mark.parametrize("which", ["image", "text"])
def test_a_dictionary_of_other_things_is_refused(which, content, tmp_path):
    with pytest.raises(WeightsError, match=f"does not hold the {which} tower of small: "):
        LOAD[which]("small", path=saved(tmp_path / "other.pt", content))


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04" + b"\0" * 64, b"\xff" * 64])
def test_a_damaged_file_is_refused(suffix, content, tmp_path):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    for load in LOAD.values():
        with pytest.raises(WeightsError, match=f"^{path} cannot be read as weights: ") as raised:
            load("small", path=path)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_cut_short_is_refused(suffix, state, tmp_path):
    path = saved(tmp_path / f"cut{suffix}", state)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_some(path, lambda key: True)


class Evil:
    """A pickle that makes a file when a plain unpickler reads it."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors"])
@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_with_code_is_refused_and_never_runs(suffix, write, state, tmp_path):
    trap, path = tmp_path / "executed", tmp_path / f"evil{suffix}"
    write({**state, "visual.evil": Evil(trap)}, path)
    for load in LOAD.values():
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            load("small", path=path)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Evil(trap)))
    assert trap.exists()  # the trap works


def test_a_recorded_hash_binds(state, tmp_path):
    path = saved(tmp_path / "clip.safetensors", state)
    record_hash(path)
    load_clip_image("small", path=path)
    saved(path, {**state, "visual.proj": state["visual.proj"] + 1})
    for load in LOAD.values():
        with pytest.raises(WeightsError, match="expected"):
            load("small", path=path)


@pytest.mark.parametrize("which", ["image", "text"])
def test_fetched_weights_are_found_by_name(which, state, tmp_path, monkeypatch):
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    saved(tmp_path / "clip_vitb32.safetensors", state)
    LOAD[which]("clip_vitb32")


@pytest.mark.parametrize("which", ["image", "text"])
def test_an_unknown_model_is_named(which, tmp_path):
    with pytest.raises(ParameterError, match="unknown CLIP model 'clip_rn50'; known: clip_vitb32, "):
        LOAD[which]("clip_rn50", path=tmp_path / "any.pt")
