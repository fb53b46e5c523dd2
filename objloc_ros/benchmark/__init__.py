"""The installed command `objloc bench`: how long each stage of a frame takes on the user's machine.

The scripts in the repository's `bench/`, which are not installed, make its documented figures and compare its methods
with literal formulations of the papers.
"""
