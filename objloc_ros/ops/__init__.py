"""Tensor and image operations shared by the methods."""
