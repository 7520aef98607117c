"""The command lines of a bench's processes."""

import sys

from ecrl.launch.system.child import build_module_command


def build_command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line that runs a module of ecrl or of this repository with this Python."""
    if module.partition(".")[0] == "ecrl":
        return build_module_command(module, *arguments)
    # These are not installed: they are found in the current folder alone, which `-P` would leave out.
    return (sys.executable, "-m", module, *arguments)
