"""One backbone pass, many heads."""
