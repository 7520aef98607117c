"""What a variant really uses in a suite: suites that differ in nothing else are one suite for comparisons."""

from dataclasses import replace

from ecrl import plugins
from ecrl.analysis.run.metrics import REFERENCE
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
            used = replace(spec, checkpoint_every=1, max_inflight=1, checkpoint=CheckpointSettings())
        elif _ignores_max_inflight(str(spec.engine)):
            used = replace(spec, max_inflight=1)
        found[spec.variant] = used.hash
    return found


def _ignores_max_inflight(engine: str) -> bool:
    return engine in plugins.names("engine") and bool(plugins.declared("engine", engine).get("ignores_max_inflight"))
