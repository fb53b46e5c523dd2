"""Which CLIP weights there are, where they come from, and that nothing is downloaded by loading."""

import pytest

from objloc_ros.backbones.clip import CLIP_NAMES
from objloc_ros.backbones.registry import REGISTRY
from objloc_ros.backbones.weights import load_clip_image, load_clip_text
from objloc_ros.errors import WeightsError

LARGE = ("clip_vitb32", "clip_vitb16", "clip_vitb32_openai", "clip_vitb16_openai")
LOAD = {"image": load_clip_image, "text": load_clip_text}


@pytest.mark.parametrize("name", ["tiny_clip", *LARGE])
def test_the_registry_says_where_weights_come_from(name):
    entry = REGISTRY[name]
    assert entry.layout == "clip"
    assert entry.licence == ("Apache-2.0" if name == "tiny_clip" else "MIT")
    assert entry.filename == f"{name}.safetensors"
    assert entry.embedded == (name == "tiny_clip")
    assert name == "tiny_clip" or entry.url.startswith("https://huggingface.co/")


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("clip_vitb32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        ("clip_vitb16", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
        ("clip_vitb32_openai", "timm/vit_base_patch32_clip_224.openai"),
        ("clip_vitb16_openai", "timm/vit_base_patch16_clip_224.openai"),
    ],
)
def test_weights_come_from_where_open_clip_takes_them(name, repository):
    assert REGISTRY[name].url == f"https://huggingface.co/{repository}/resolve/main/open_clip_model.safetensors"


def test_every_model_has_weights():
    assert {name for name, entry in REGISTRY.items() if entry.layout == "clip"} == set(CLIP_NAMES)


@pytest.mark.parametrize("which", ["image", "text"])
@pytest.mark.parametrize("name", LARGE)
def test_missing_weights_name_the_command_and_nothing_is_downloaded(name, which, tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise AssertionError("loading opened a URL")

    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    for opener in ("urllib.request.urlopen", "socket.socket.connect", "socket.create_connection"):
        monkeypatch.setattr(opener, refuse)
    with pytest.raises(WeightsError, match=rf"run `objloc weights fetch {name}` \(MIT, https://") as raised:
        LOAD[which](name)
    assert "\n" not in str(raised.value)
    with pytest.raises(WeightsError, match="no weights file"):
        LOAD[which](name, path=tmp_path / "nowhere.pt")
    assert list(tmp_path.iterdir()) == []
