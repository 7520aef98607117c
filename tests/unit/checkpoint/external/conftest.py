"""A process group of one, and engines only where their package is installed."""

from collections.abc import Iterator

import pytest
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from tests.extras import need


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    if hasattr(request.node, "callspec") and (engine := request.node.callspec.params.get("engine")):
        need(engine)


@pytest.fixture(autouse=True)
def process_group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
