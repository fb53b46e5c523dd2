"""Methods measured on data sets and on held-out scenes, and the papers' tables."""
