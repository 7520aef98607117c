"""One run as the orchestrator handles it: what it is, and where its files are."""

import dataclasses
from dataclasses import dataclass

from ecrl.config.run import RunSpec
from ecrl.records.paths import RunPaths


@dataclass(frozen=True)
class Run:
    """A run of a campaign, made or still to be made. paths: its folder, which need not be there yet."""

    spec: RunSpec
    paths: RunPaths

    @property
    def name(self) -> str:
        """Suite, variant and seed, as users read them."""
        return f"{self.spec.suite_id} {self.spec.folder_name} seed{self.spec.seed}"

    def copy_with_token(self, token: int) -> "Run":
        """The same run as the attempt of this token makes it."""
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, token=token))
