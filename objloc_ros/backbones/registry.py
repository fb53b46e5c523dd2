"""Which weights exist: a table of source, licence, size and hash, and where each file lies on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from objloc_ros.errors import ParameterError

_DINO = "https://dl.fbaipublicfiles.com/dino"
_DINOV2 = "https://dl.fbaipublicfiles.com/dinov2"
_DINOV3_LICENCE = "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"
_APPLE_RESEARCH = "LicenseRef-apple-amlr"
"""Apple Machine Learning Research Model License: non-commercial scientific research only."""

_CUTLER = "https://dl.fbaipublicfiles.com/cutler/checkpoints"
_HUB = "https://huggingface.co"
SIGLIP2_TOKENS = "siglip2_tokenizer"
_FOUND = "https://raw.githubusercontent.com/valeoai/FOUND/1ad22bacf1a6854faff1b5d4be300d54cad6f277"
_SELFMASK = "https://github.com/NoelShin/selfmask/releases/download/v1.0.0"
_DINOISER = "https://raw.githubusercontent.com/wysoczanska/clip_dinoiser/a954aae6fb61f5ff18834e50a0c78a2258cd9afb"


@dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """One weights file.

    Args:
        name: Key in the registry; for a backbone also its architecture.
        filename: File name in the cache, or in `backbones/tiny/` for an embedded file.
        layout: "vit" (timm and DINO key names), "clip" (open_clip's key names), "found_head" (a 1x1 convolution),
            "dinoiser_head" (CLIP-DINOiser's two convolutions), "detector" (`methods.token_detector`), "selfmask"
            (SelfMask's own key names), "rcnn" (detectron2's) or "tokens" (a `tokenizer.json`).
        licence: SPDX identifier; "LicenseRef-..." for a licence that has none.
        agreement: Address of a licence that has to be read and accepted before the file is fetched; None where nothing
            has to be.
        source: Where the weights come from, in words.
        url: Download address; None for a file that ships with the package.
        sha256: Known hash; None where the publisher states none. Then the hash of the first download is recorded
            beside the file and binds every later use.
        size_bytes: Exact size of the download, where known.
    """

    name: str
    filename: str
    layout: Literal["vit", "clip", "found_head", "dinoiser_head", "detector", "selfmask", "rcnn", "tokens"]
    licence: str
    source: str
    agreement: str | None = None
    url: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None

    @property
    def embedded(self) -> bool:
        """Whether the file ships with the package."""
        return self.url is None

    @property
    def terms(self) -> str:
        """The licence, and in words if it forbids commercial use or has to be accepted."""
        if self.agreement is not None:
            return f"{self.licence}, to be accepted"
        return f"{self.licence}, non-commercial use only" if self.non_commercial else self.licence

    @property
    def non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-NC-" in self.licence or self.licence == _APPLE_RESEARCH

    @property
    def path(self) -> Path:
        """Where the file lies, or would lie once fetched."""
        return (Path(__file__).parent / "tiny" if self.embedded else cache_dir()) / self.filename


def cache_dir() -> Path:
    """Locate downloaded weights: `$OBJLOC_CACHE`, else `$XDG_CACHE_HOME/objloc_ros`, else `~/.cache/objloc_ros`."""
    if own := os.environ.get("OBJLOC_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "objloc_ros"


def find_entry(name: str) -> WeightsEntry:
    """Look up the registry entry of a name.

    Raises:
        ParameterError: If the name is unknown.
    """
    if name not in REGISTRY:
        raise ParameterError(f"unknown weights {name!r}; known: {', '.join(REGISTRY)}")
    return REGISTRY[name]


def is_present(name: str) -> bool:
    """Return whether there are weights of this name, and their file is on this machine."""
    return name in REGISTRY and REGISTRY[name].path.is_file()


def _dino(name: str, stem: str, size_bytes: int, sha256: str | None = None) -> WeightsEntry:
    return WeightsEntry(
        name=name,
        filename=f"{stem}.pth",
        layout="vit",
        licence="Apache-2.0",
        source="DINO (Caron et al., ICCV 2021), backbone only, ImageNet without labels",
        url=f"{_DINO}/{stem}/{stem}.pth",
        sha256=sha256,
        size_bytes=size_bytes,
    )


def _dinov2(name: str, stem: str) -> WeightsEntry:
    folder = stem.removesuffix("_reg4")
    registers = ", with registers (Darcet et al., ICLR 2024)" if folder != stem else ""
    return WeightsEntry(
        name=name,
        filename=f"{stem}_pretrain.pth",
        layout="vit",
        licence="Apache-2.0",
        source=f"DINOv2 (Oquab et al., 2023){registers}, backbone only, LVD-142M without labels",
        url=f"{_DINOV2}/{folder}/{stem}_pretrain.pth",
    )


def _dinov3(name: str, repository: str) -> WeightsEntry:
    return WeightsEntry(
        name=name,
        filename=f"{name}.safetensors",
        layout="vit",
        licence="LicenseRef-DINOv3",
        agreement=_DINOV3_LICENCE,
        source="DINOv3 (Simeoni et al., 2025), LVD-1689M without labels, as timm converted it",
        url=f"{_HUB}/{repository}/resolve/main/model.safetensors",
    )


def _cutler(name: str, stem: str, source: str) -> WeightsEntry:
    return WeightsEntry(
        name=name,
        filename=f"{stem}.pth",
        layout="rcnn",
        licence="CC-BY-NC-4.0",
        source=f"CutLER (Wang et al., CVPR 2023), {source}",
        url=f"{_CUTLER}/{stem}.pth",
    )


def _clip(name: str, repository: str, licence: str, source: str) -> WeightsEntry:
    return WeightsEntry(
        name=name,
        filename=f"{name}.safetensors",
        layout="clip",
        licence=licence,
        source=source,
        url=f"{_HUB}/{repository}/resolve/main/open_clip_model.safetensors",
    )


def _siglip2(name: str, repository: str) -> WeightsEntry:
    return _clip(name, repository, "Apache-2.0", "SigLIP 2 (Tschannen et al., 2025), WebLI, as timm converted it")


def _mobileclip2(size: str) -> WeightsEntry:
    return _clip(
        f"mobileclip2_{size.lower()}",
        f"timm/MobileCLIP2-{size}-OpenCLIP",
        _APPLE_RESEARCH,
        "MobileCLIP2 (Faghri et al., TMLR 2025), DFNDR-2B, as timm converted it: for research purposes only",
    )


def _selfmask(queries: int) -> WeightsEntry:
    return WeightsEntry(
        name=f"selfmask_nq{queries}",
        filename=f"selfmask_nq{queries}.pt",
        layout="selfmask",
        licence="MIT",
        source=f"SelfMask (Shin et al., CVPR workshops 2022), {queries} queries on DINO's ViT-S/8, trained on DUTS-TR",
        url=f"{_SELFMASK}/selfmask_nq{queries}.pt",
    )


_ENTRIES = (
    WeightsEntry(
        name="tiny",
        filename="tiny_vit.safetensors",
        layout="vit",
        licence="Apache-2.0",
        source="trained by this project on procedural scenes, from a classifier of ImageNet (EfficientNet-Lite0)",
    ),
    WeightsEntry(
        name="tiny_found_head",
        filename="tiny_found_head.safetensors",
        layout="found_head",
        licence="Apache-2.0",
        source="FOUND's head on the features of tiny, trained by this project on composed scenes",
    ),
    WeightsEntry(
        name="tiny_detector",
        filename="tiny_detector.safetensors",
        layout="detector",
        licence="Apache-2.0",
        source="trained by this project: a token detector on the features of tiny, with MaskCut as its teacher",
    ),
    WeightsEntry(
        name="tiny_clip",
        filename="tiny_clip.safetensors",
        layout="clip",
        licence="Apache-2.0",
        source="trained by this project on procedural scenes with attribute captions",
    ),
    WeightsEntry(
        name="lite_clip",
        filename="lite_clip.safetensors",
        layout="clip",
        licence="Apache-2.0 AND WordNet-3.0",
        source="EfficientNet-Lite0 (Google; ImageNet's labels), nouns by all-MiniLM-L6-v2 and WordNet 3.0: see NOTICE",
    ),
    _clip("clip_vitb32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "MIT", "open_clip's ViT-B-32, laion2b_s34b_b79k"),
    _clip("clip_vitb16", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "MIT", "open_clip's ViT-B-16, laion2b_s34b_b88k"),
    _clip(
        "clip_vitb32_openai", "timm/vit_base_patch32_clip_224.openai", "MIT", "OpenAI's ViT-B/32 (Radford et al., 2021)"
    ),
    _clip(
        "clip_vitb16_openai", "timm/vit_base_patch16_clip_224.openai", "MIT", "OpenAI's ViT-B/16 (Radford et al., 2021)"
    ),
    _siglip2("siglip2_vitb32", "timm/ViT-B-32-SigLIP2-256"),
    _siglip2("siglip2_vitb16", "timm/ViT-B-16-SigLIP2"),
    _siglip2("siglip2_vitb16_512", "timm/ViT-B-16-SigLIP2-512"),
    WeightsEntry(
        name=SIGLIP2_TOKENS,
        filename="siglip2_tokenizer.json",
        layout="tokens",
        licence="Apache-2.0",
        source="Gemma's vocabulary, which all of SigLIP 2 reads texts with",
        url=f"{_HUB}/timm/ViT-B-16-SigLIP2/resolve/main/tokenizer.json",
    ),
    _mobileclip2("S0"),
    _mobileclip2("S2"),
    _mobileclip2("S3"),
    _mobileclip2("S4"),
    _dino("dino_vits16", "dino_deitsmall16_pretrain", 86_710_517),
    _dino("dino_vits8", "dino_deitsmall8_pretrain", 86_728_949),
    _dino(
        "dino_vitb16",
        "dino_vitbase16_pretrain",
        343_242_485,
        "bf34ad0f424b9029b593e8dc3ed553bf26e88bcba0d32bf3e62a6209cb64c85e",
    ),
    _dino(
        "dino_vitb8",
        "dino_vitbase8_pretrain",
        343_279_349,
        "575f0efc4838938314afa09897a62ed2b87919928b5edcd133abb907328995eb",
    ),
    _dinov2("dinov2_vits14", "dinov2_vits14"),
    _dinov2("dinov2_vitb14", "dinov2_vitb14"),
    _dinov2("dinov2_vits14_reg", "dinov2_vits14_reg4"),
    _dinov2("dinov2_vitb14_reg", "dinov2_vitb14_reg4"),
    _dinov3("dinov3_vits16", "timm/vit_small_patch16_dinov3_qkvb.lvd1689m"),
    _dinov3("dinov3_vitb16", "timm/vit_base_patch16_dinov3_qkvb.lvd1689m"),
    WeightsEntry(
        name="dino_vits8_found_head",
        filename="found_dino_vits8_decoder_weights.pt",
        layout="found_head",
        licence="Apache-2.0",
        source="FOUND (Simeoni et al., CVPR 2023), the released head",
        url=f"{_FOUND}/data/weights/decoder_weights.pt",
        sha256="47ff2a4af3dbc6c80cb832cc81f8ed8ae81809e52576d0de5f9c754cf46ef9b5",
        size_bytes=2_689,
    ),
    WeightsEntry(
        name="tiny_clip_dinoiser_head",
        filename="tiny_clip_dinoiser_head.safetensors",
        layout="dinoiser_head",
        licence="Apache-2.0",
        source="CLIP-DINOiser's recipe on the features of tiny_clip, with tiny and its FOUND head as teachers",
    ),
    WeightsEntry(
        name="clip_vitb16_dinoiser_head",
        filename="clip_vitb16_dinoiser_last.pt",
        layout="dinoiser_head",
        licence="Apache-2.0",
        source="CLIP-DINOiser (Wysoczanska et al., ECCV 2024), the released head",
        url=f"{_DINOISER}/checkpoints/last.pt",
    ),
    _selfmask(20),
    _selfmask(10),
    _cutler("cutler_cascade", "cutler_cascade_final", "the Cascade Mask R-CNN after its last round"),
    _cutler("cutler_mrcnn", "cutler_mrcnn_final", "the Mask R-CNN after its last round"),
    _cutler("cutler_cascade_r1", "cutler_cascade_r1", "the Cascade Mask R-CNN of self-training's first round"),
    _cutler("cutler_cascade_r2", "cutler_cascade_r2", "the Cascade Mask R-CNN of self-training's second round"),
)

REGISTRY: dict[str, WeightsEntry] = {entry.name: entry for entry in _ENTRIES}
"""All known weights by name; a head is called after its backbone."""
