"""ecrl in odd worlds: each gives the right result or a clear exit, and leaves nothing behind."""
