"""Property tests here never fail for being slow on a loaded machine, and try the same examples on every run."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("reproducible")
