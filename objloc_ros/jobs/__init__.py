"""Many inputs, processed here or on Ray."""
