"""Usage errors, options and completion."""
