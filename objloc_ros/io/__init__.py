"""Files and pictures, read and written."""
