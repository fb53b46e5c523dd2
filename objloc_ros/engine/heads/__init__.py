"""One head per method, on the features that all share."""
