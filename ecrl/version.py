"""The version of ecrl, for files that `ecrl/__init__.py` itself loads when it is asked to."""

VERSION = "0.2.0.dev0"
