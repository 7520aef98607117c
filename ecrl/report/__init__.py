"""Reports: sections, plots, formats."""
