"""Finds settings that spread a model over the ranks in a way that the ranks or an engine cannot take."""

from collections.abc import Iterator

from ecrl import plugins
from ecrl.config.matrix import Matrix
from ecrl.config.problems import Sources
from ecrl.config.suite import expand_matrix, list_train_settings
from ecrl.config.train import TrainSettings


def find_parallel_problems(matrix: Matrix, sources: Sources) -> list[str]:
    """Problems of `train.parallel` and `train.shard_ranks` in a valid matrix that some suite has."""
    found = []
    for train in list_train_settings(matrix):
        problems = [*_find_unsplittable(train, sources), *_find_unfit_engines(train, matrix, sources)]
        if problems and any(suite.train == train for suite in expand_matrix(matrix)):
            found += problems
    return list(dict.fromkeys(found))


def _find_unsplittable(train: TrainSettings, sources: Sources) -> Iterator[str]:
    where = f"{sources.name(('train', 'shard_ranks'))}: train.shard_ranks"
    found = f"found {train.shard_ranks} with parallel = {train.parallel}"
    if not plugins.declared("parallelism", train.parallel).get("takes_shard_ranks"):
        if train.shard_ranks:
            yield f"{where}: {found}, expected it to be left out: only hsdp splits in groups"
    elif not train.shard_ranks or train.nproc % train.shard_ranks:
        fitting = ", ".join(str(n) for n in range(1, train.nproc + 1) if train.nproc % n == 0)
        yield f"{where}: {found}, expected a divisor of train.nproc = {train.nproc}: {fitting}"


def _find_unfit_engines(train: TrainSettings, matrix: Matrix, sources: Sources) -> Iterator[str]:
    if not plugins.declared("parallelism", train.parallel).get("sharded"):
        return
    for engine in matrix.engines:
        if not plugins.declared("engine", engine).get("sharded"):
            fitting = [name for name in plugins.names("engine") if plugins.declared("engine", name).get("sharded")]
            yield (
                f"{sources.name(('matrix', 'variants'))}: matrix.variants: engine {engine!r} cannot save a model that"
                f" parallel = {train.parallel} splits over the ranks, expected engines among {', '.join(fitting)}"
            )
