"""The output for users: messages, tables, progress."""
