"""A pipeline of open-vocabulary methods with random CLIP weights, so that only the way through them is judged."""

import pytest
import torch
from safetensors.torch import save_file
from segmentation_making import PROMPTS, normalised, picture

import objloc_ros
from objloc_ros.backbones.clip import build_clip_image, build_text_transformer
from objloc_ros.backbones.clip_text import SPECIAL_TOKENS, byte_pairs
from objloc_ros.methods.maskclip import value_features
from objloc_ros.methods.options import SEGMENTATION


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Random weights of the embedded CLIP pair's layout, which tell images and prompts apart.

    Random towers embed everything in one direction; what all images have in common is taken out of the projection.
    """
    torch.manual_seed(0)
    tower = build_clip_image("tiny_clip").eval().requires_grad_(False)
    normed = []
    hook = tower.visual.ln_post.register_forward_hook(lambda module, inputs, output: normed.append(output))
    images = torch.cat([normalised(picture(48, 48, seed)) for seed in range(16)])
    tower(images)
    value_features(tower, tower.tokens(images))
    hook.remove()
    common, _ = torch.linalg.qr(torch.stack([normed[0].mean(0), normed[1].mean((0, 1))], dim=1))
    tower.visual.proj -= common @ (common.T @ tower.visual.proj)
    known = torch.tensor(sorted(byte_pairs().encode("a background blue circle of photo red the triangle")))
    state = {f"visual.{key}": value for key, value in tower.visual.state_dict().items()}
    state |= build_text_transformer("tiny_clip", len(known) + SPECIAL_TOKENS).state_dict()
    state["token_embedding.weight"] *= 50
    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file({key: value.clone() for key, value in state.items()} | {"known_tokens": known}, path)
    return path


@pytest.fixture
def single(monkeypatch):
    """Single precision, whatever this machine's CPU prefers: only then are two ways of computing comparable."""
    for module in ("backbone", "heads.segmentation"):
        monkeypatch.setattr(f"objloc_ros.engine.{module}.has_bfloat16_units", lambda device: False)


@pytest.fixture
def load(weights, single):
    """Make a pipeline; with prompts unless told otherwise."""

    def make(*methods, prompts=PROMPTS, **options):
        pipeline = objloc_ros.load_pipeline(methods, device="cpu", clip_weights=weights)
        for method in methods:
            if method in SEGMENTATION:
                pipeline.configure(method, **options)
        if prompts:
            pipeline.set_prompts(prompts)
        return pipeline

    return make
