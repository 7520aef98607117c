"""What every test has in its environment, and every ecrl that it starts."""

import os
import random
import tempfile

import pytest

from ecrl.launch.system.device_leases import FOLDER_VARIABLE

# Leases of this session alone: tests neither wait for what else runs on this machine, nor hold it up.
os.environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="ecrl-leases-")

_SEED_VARIABLE = "ECRL_TEST_SEED"
# Processes that pytest-xdist starts inherit it.
_SEED = int(os.environ.setdefault(_SEED_VARIABLE, str(random.SystemRandom().randrange(10**6))))


def pytest_report_header() -> str:
    """The seed of what is sampled, so that a failure can be had again."""
    return f"samples: {_SEED_VARIABLE}={_SEED}"


@pytest.fixture
def sampler(request: pytest.FixtureRequest) -> random.Random:
    """Draws what a short test looks at of many; the full one is a torture."""
    return random.Random(f"{_SEED}/{request.node.nodeid}")
