"""The documentation: pages in Markdown, and `docs.generate`, which writes those that the code decides."""
