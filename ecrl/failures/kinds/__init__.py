"""The kinds of failures, one file each."""
