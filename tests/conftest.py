"""What every test has in its environment, and every ecrl that it starts."""

import gc
import os
import random
import re
import tempfile

import pytest

from ecrl.launch.system.device_leases import FOLDER_VARIABLE

# Leases of this session alone: tests neither wait for what else runs on this machine, nor hold it up.
os.environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="ecrl-leases-")

# Collecting imports a thousand modules and makes no garbage; to look for some takes a third of its time. Later, too,
# nothing of it is looked at again.
gc.disable()

_SAMPLE = 2  # tests that `make test` runs of each group of sampled ones
_SEED_VARIABLE = "ECRL_TEST_SEED"
# Processes that pytest-xdist starts inherit it.
_SEED = int(os.environ.setdefault(_SEED_VARIABLE, str(random.SystemRandom().randrange(10**6))))


# Marks of tests that run only where `-m` names their mark.
_ON_REQUEST = ("torture", "statistics", "timing")


def pytest_report_header() -> str:
    """The seed of what is sampled, so that a failure can be had again."""
    return f"samples: {_SEED_VARIABLE}={_SEED}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs on request alone, and what is not drawn of the tests marked `sampled`."""
    wanted = set(re.findall(r"(?<!not )\b\w+", str(config.option.markexpr)))
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        if mark := item.get_closest_marker("sampled"):
            groups.setdefault(mark.args[0], []).append(item)
            if "torture" in wanted:
                item.add_marker(pytest.mark.torture)
    left_out = {item for item in items for mark in _ON_REQUEST if item.get_closest_marker(mark) and mark not in wanted}
    if "torture" not in wanted:
        for group, members in groups.items():
            size = min(_SAMPLE, len(members))
            left_out.update({*members} - {*random.Random(f"{_SEED}/{group}").sample(members, size)})
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))


def pytest_collection_finish() -> None:
    """Collect garbage from here on, of tests alone."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def sampler(request: pytest.FixtureRequest) -> random.Random:
    """Draws what a short test looks at of many; the full one is a torture."""
    return random.Random(f"{_SEED}/{request.node.nodeid}")
