"""Writes the pages that the code decides: `python -m docs.generate`. A test fails where one is stale."""
