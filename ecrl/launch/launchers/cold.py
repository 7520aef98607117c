"""`cold`: a new torchrun for every run, as users start it."""

from ecrl.launch.runs.launcher import LauncherPlugin
from ecrl.launch.runs.torchrun import TorchrunLauncher


class Cold(TorchrunLauncher):
    """A torchrun for every run; its ranks import everything anew."""


PLUGIN = LauncherPlugin(
    description="a new torchrun for every run, as its users start it",
    make=Cold,
    leases_devices=True,
    forks_warm=False,
    serves_many_runs=False,
    is_local=True,
)
