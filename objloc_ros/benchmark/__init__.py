"""What `objloc bench` measures, compares and tells."""
