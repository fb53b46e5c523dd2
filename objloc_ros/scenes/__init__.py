"""Procedural scenes with known truth: textured objects over textured backgrounds."""
