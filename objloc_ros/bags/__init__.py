"""Bags: read, processed in lockstep or in real time, and compared with the truth."""
