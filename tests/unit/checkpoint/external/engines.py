"""The engines by what the tests ask of them, and a group after a crash."""

from ecrl import plugins
from ecrl.storage.formats import has_own_format
from tests.unit.checkpoint.ranks_in_threads import Group

ENGINES = plugins.names("engine")

PEERS = [engine for engine in ENGINES if not has_own_format(engine)]


def next_attempt(group: Group, step: int) -> Group:
    """The group after a crash, restored from the checkpoint of `step`."""
    second = Group(group.folder, group.engine, group.world_size, attempt=group.attempt + 1)
    restored = second.each(lambda rank: second.engines[rank].restore())
    assert [r.step for r in restored] == [step] * group.world_size
    return second
