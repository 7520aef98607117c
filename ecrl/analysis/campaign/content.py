"""What a variant really uses in a suite: suites that differ in nothing else are one suite for comparisons.

And whether a run was told to do what its suite asks for.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ecrl import plugins
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.config.hashing import identity
from ecrl.config.run import RunSpec
from ecrl.config.suite import Suite, build_run_specs
from ecrl.config.train import CheckpointSettings


def compute_contents(suite: Suite) -> dict[str, str]:
    """A hash of what each variant uses in a suite, seeds left out. Labels and keys that it ignores have no part in it.

    The key of a row that holds it is `uses`.
    """
    found = {}
    for spec in build_run_specs(suite, 0, suite.variants, prefix="", device="", data_root=None, claims_hash=""):
        used = spec
        if spec.variant == REFERENCE:
            used = replace(spec, checkpoint_every=1, max_inflight=1, checkpoint=CheckpointSettings(), axes={})
        elif _ignores_max_inflight(str(spec.engine)):
            used = replace(spec, max_inflight=1)
        found[spec.variant] = used.hash
    return found


def _ignores_max_inflight(engine: str) -> bool:
    return engine in plugins.names("engine") and bool(plugins.declared("engine", engine).get("ignores_max_inflight"))


def describe_other_work(suite: Suite, spec: RunSpec) -> str | None:
    """'train.steps is 30, expected 100': what decides a run's outcome and is not what its suite asks for; else None."""
    options: dict[str, Any] = {"prefix": "", "data_root": None, "claims_hash": ""}
    [asked] = build_run_specs(suite, spec.seed, (spec.variant,), device=spec.device, **options)
    if asked.hash == spec.hash:
        return None
    told, wanted = (dict(_flatten("", identity(one))) for one in (spec, asked))
    return ", ".join(
        f"{name} is {told.get(name)}, expected {wanted.get(name)}"
        for name in sorted(told.keys() | wanted.keys())
        if told.get(name) != wanted.get(name)
    )


def _flatten(name: str, value: object) -> Iterator[tuple[str, object]]:
    """('train.steps', 100) for every value in nested tables."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, item in value.items():
        yield from _flatten(f"{name}.{key}" if name else key, item)
