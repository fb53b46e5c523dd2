"""Training without human labels."""
