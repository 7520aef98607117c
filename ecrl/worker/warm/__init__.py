"""The warm launcher's server, which forks ranks that have torch loaded."""
