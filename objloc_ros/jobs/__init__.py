"""Many inputs, worked through here or on Ray."""
