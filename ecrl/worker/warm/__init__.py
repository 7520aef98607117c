"""The warm launcher's server, which forks ranks with torch already loaded."""
