"""Matrix files of tests."""


def without_warm_up(text: str) -> str:
    """The matrix without a warm-up, which costs seconds, unless it says whether it has one."""
    if "warmup =" in text:
        return text
    head, table, rest = text.partition("[run]\n")
    return f"{head}[run]\nwarmup = false\n{rest}" if table else f"{text}\n[run]\nwarmup = false\n"
