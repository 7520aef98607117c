"""A report as Markdown, HTML or LaTeX."""
