"""Bags: read, gone through in lockstep or in real time, and compared with the truth."""
