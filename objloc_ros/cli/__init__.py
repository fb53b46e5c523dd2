"""The `objloc` command, one file per sub-command."""
