"""Results for people: the papers' tables, published numbers beside the measured ones, and a page for one run."""
