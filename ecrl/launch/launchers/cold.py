"""`cold`: torchrun as its users start it, a new one for every run."""

from ecrl.launch.runs.launcher import LauncherPlugin
from ecrl.launch.runs.torchrun import TorchrunLauncher


class Cold(TorchrunLauncher):
    """A torchrun for every run, whose ranks import everything anew."""


PLUGIN = LauncherPlugin(
    description="torchrun for every run, as its users start it",
    make=Cold,
    leases_devices=True,
    forks_warm=False,
    serves_many_runs=False,
    is_local=True,
)
