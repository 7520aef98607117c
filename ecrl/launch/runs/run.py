"""A run as the orchestrator handles it: its specification and its files."""

import dataclasses
from dataclasses import dataclass

from ecrl.config.run import RunSpec
from ecrl.records.paths import RunPaths


@dataclass(frozen=True)
class Run:
    """A run of a campaign, started or not. paths: its folder, which may not exist yet."""

    spec: RunSpec
    paths: RunPaths

    @property
    def name(self) -> str:
        """Suite, variant and seed, as shown to users."""
        return f"{self.spec.suite_id} {self.spec.folder_name} seed{self.spec.seed}"

    def copy_with_token(self, token: int) -> "Run":
        """A copy for the attempt with this token."""
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, token=token))
