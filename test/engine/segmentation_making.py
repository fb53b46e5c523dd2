"""Pictures that the segmentation methods are tried on."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from objloc_ros.backbones.clip import CLIP_MEAN, CLIP_STD

BOTH = ("clip_diy", "maskclip")
PROMPTS = ("red circle", "blue triangle", "the photo")


def picture(height, width, seed=0):
    """Patches of colour."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def scene(height, width):
    """Two squares on a dark ground."""
    rgb = np.full((height, width, 3), 40, np.uint8)
    rgb[height // 6 : height // 2, width // 8 : width // 2] = (207, 22, 45)
    rgb[height // 2 : height * 5 // 6, width * 5 // 8 : width * 7 // 8] = (60, 200, 90)
    return rgb


def normalised(rgb):
    """float32 [1, 3, H, W] of RGB values in [0, 255]."""
    mean, std = np.array(CLIP_MEAN, np.float32), np.array(CLIP_STD, np.float32)
    return torch.from_numpy(((rgb.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1))[None]
