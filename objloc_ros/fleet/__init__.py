"""Objects across recordings: described, compared, grouped and ranked over all that a fleet has seen."""
