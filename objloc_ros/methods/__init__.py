"""One readable file per localisation method."""
