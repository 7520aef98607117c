"""What a user sees: messages, tables, progress."""
