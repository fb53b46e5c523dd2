"""Training of the embedded CLIP pair: pictures, losses, resuming, and what the weights file holds."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from objloc_ros.backbones.weights import load_clip_image, load_clip_text
from objloc_ros.errors import ParameterError
from objloc_ros.scenes.attributes import KEPT_OUT, AttributeBank
from objloc_ros.training.captions import GROUPS
from objloc_ros.training.clip_views import IGNORED, ClipBatches
from objloc_ros.training.tiny_clip import (
    ClipTraining,
    TinyClip,
    compute_losses,
    find_rivals,
    save_clip,
    train_tiny_clip,
)

SMALL = {"crops": 6, "scenes": 1, "bank": (3, 1), "warmup": 2}


@pytest.fixture(scope="module")
def batches():
    return ClipBatches(AttributeBank(5, backgrounds=3, copies=1), seed=0, start=0, easy=1, crops=8, scenes=2)


def test_a_batch_depends_on_seed_and_step_only(batches):
    first, again, other = batches.batch(3), batches.batch(3), batches.batch(4)
    assert torch.equal(first.crops, again.crops)
    assert first.captions == again.captions
    assert not torch.equal(first.crops, other.crops)


def test_pictures_have_a_kind_per_crop_and_per_token(batches):
    batch = batches.batch(2)
    assert batch.crops.shape == (8, 48, 48, 3)
    assert batch.scenes.shape == (2, 128, 128, 3)
    for group, truth, tokens, texts in zip(GROUPS, batch.truth, batch.tokens, batch.captions, strict=True):
        assert truth.shape == (8, len(group.kinds) + 1)
        torch.testing.assert_close(truth.sum(1), torch.ones(8))
        assert tokens.shape == (2, 256)
        assert int(tokens.min()) >= IGNORED
        assert int(tokens.max()) <= len(group.kinds)
        assert len(texts) == len(group.kinds) + 1


def test_easy_steps_have_blurred_backgrounds(batches):
    def roughness(images):
        return float(np.abs(np.diff(images.numpy().astype(float), axis=2)).mean())

    easy = np.mean([roughness(b.scenes) for b in (batches.batch(0),)])
    hard = np.mean([roughness(batches.batch(step).scenes) for step in range(1, 6)])
    assert easy < hard


def test_what_never_occurs_together_is_no_counter_example(batches):
    batch = batches.batch(1)
    of_crops, of_tokens = find_rivals(batch)
    assert not of_crops[1].any()
    assert not of_crops[3].any()
    assert not of_tokens[3].any()
    for truth, ruled_out in zip(batch.truth, of_crops, strict=True):
        assert not (ruled_out & (truth > 0)).any()
    colours, shapes = [kind for (kind,) in GROUPS[0].kinds], [kind for (kind,) in GROUPS[2].kinds]
    for crop in range(len(batch.crops)):
        seen = {shapes[s] for s in batch.truth[2][crop].nonzero().flatten().tolist() if s < len(shapes)}
        true = {colours[c] for c in batch.truth[0][crop].nonzero().flatten().tolist() if c < len(colours)}
        expected = {colour for colour, shape in KEPT_OUT if shape in seen} - true
        assert {colours[c] for c in of_crops[0][crop].nonzero().flatten().tolist()} == expected


def test_a_few_steps_lower_the_losses(tmp_path, batches):
    batch = batches.batch(1)
    torch.manual_seed(0)
    before = sum(compute_losses(TinyClip().train(), batch)).item()
    trained = train_tiny_clip(
        ClipTraining(12, average=0.5, peak_rate=3e-4, **SMALL), tmp_path / "c", workers=0, save_every=12
    )
    assert sum(compute_losses(trained.train(), batch)).item() < before - 0.5


def test_a_resumed_training_ends_like_an_uninterrupted_one(tmp_path):
    settings = ClipTraining(4, easy=0.5, **SMALL)
    whole = train_tiny_clip(settings, tmp_path / "whole", workers=0)
    seen = []
    with pytest.raises(KeyboardInterrupt):
        train_tiny_clip(settings, tmp_path / "part", workers=0, save_every=2, on_progress=_stop_at(3))
    resumed = train_tiny_clip(settings, tmp_path / "part", workers=0, on_progress=lambda step, _: seen.append(step))
    assert seen == [3, 4]
    for name, value in whole.state().items():
        torch.testing.assert_close(resumed.state()[name], value, msg=name)
    with pytest.raises(ParameterError, match="is at step 4, beyond the wanted 3"):
        train_tiny_clip(ClipTraining(3, **SMALL), tmp_path / "whole", workers=0)


def test_the_weights_file_holds_both_towers(tmp_path):
    model = TinyClip().eval()
    path = tmp_path / "tiny_clip.safetensors"
    save_clip(path, model)
    assert path.stat().st_size < 8_000_000
    image, text = load_clip_image(path=path), load_clip_text(path=path)
    pixels = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        torch.testing.assert_close(image(pixels), model.image(pixels), atol=0.02, rtol=0.02)
        (expected,) = model.captions([["a red circle", "background"]])
    torch.testing.assert_close(text.encode(["a red circle", "background"], ["{}"]), expected, atol=0.01, rtol=0.02)
    again = TinyClip()
    again.load(path)
    with torch.inference_mode():
        (loaded,) = again.captions([["a red circle"]])
    torch.testing.assert_close(F.normalize(loaded, dim=-1), expected[:1], atol=0.01, rtol=0.02)


def _stop_at(last):
    def on_progress(step, losses):
        assert set(losses) == {"crops", "tokens", "scale"}
        if step == last:
            raise KeyboardInterrupt

    return on_progress
