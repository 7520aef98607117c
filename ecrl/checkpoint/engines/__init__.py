"""The checkpoint engines, one file each."""
