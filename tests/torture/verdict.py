"""What a torture program says in the end."""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """passed, in one sentence with its numbers. facts: what was counted; faults: what went wrong, each once."""

    program: str
    text: str
    faults: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.faults

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'} {self.program}: {self.text}"


def told(program: Callable[..., Verdict], description: str, sizes: Mapping[str, int]) -> int:
    """Run `program` with the sizes of the command line, print what it found, and return its exit code."""
    parser = argparse.ArgumentParser(description=description)
    for name, default in sizes.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"default {default}")
    begun = time.monotonic()
    verdict = program(**vars(parser.parse_args()))
    for fault in verdict.faults[:20]:
        print(f"  {fault}")
    if verdict.facts:
        print(f"  {json.dumps(verdict.facts)}")
    print(f"{verdict} ({time.monotonic() - begun:.1f} s)")
    return 0 if verdict.passed else 1
