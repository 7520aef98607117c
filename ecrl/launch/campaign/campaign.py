"""A campaign: the expansion of a matrix under a prefix, with its suites, their runs, and the order of the runs."""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ecrl.config.block_order import BALANCED, BlockOrders, extend_block_orders, insert_repeat
from ecrl.config.hashing import content_hash
from ecrl.config.matrix import Matrix
from ecrl.config.suite import Suite, Suites, build_run_specs, expand_matrix, name_repeat
from ecrl.launch.runs.run import Run
from ecrl.records.manifest.store import Row
from ecrl.records.paths import CampaignPaths


@dataclass(frozen=True)
class Campaign:
    """A valid matrix under a prefix. Its device may still be `auto`.

    origin: comments for the frozen file. older: the frozen matrices that this one extends, oldest first. order_rule:
    see `block_order`; a campaign keeps the one that it began with.
    """

    paths: CampaignPaths
    matrix: Matrix
    origin: str
    older: tuple[Matrix, ...] = ()
    order_rule: str = BALANCED

    @cached_property
    def experiment_hash(self) -> str:
        """SHA-256 of the content that identifies the experiment."""
        return content_hash(self.matrix.content)

    @property
    def rows_hash(self) -> str:
        """Identifies the manifest's rows: the experiment, and which variants are repeated (`aa`)."""
        return "+".join([self.experiment_hash, *map(name_repeat, self.matrix.run.aa)])

    @property
    def marker(self) -> Path:
        """The campaign's marker in the environment of its processes: its resolved folder."""
        return self.paths.root.resolve()

    @cached_property
    def suites(self) -> Suites:
        """All suites in matrix order; each is built on access."""
        return expand_matrix(self.matrix)

    def suite(self, suite_id: str, index: int = 0) -> Suite:
        """The suite with this id. index: its likely position in the matrix; a wrong one only costs time.

        Raises:
            KeyError: the matrix has no such suite.
        """
        if index < len(self.suites) and (suite := self.suites[index]).suite_id == suite_id:
            return suite
        return self.suites[self._indices[suite_id]]

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {suite.suite_id: index for index, suite in enumerate(self.suites)}

    @cached_property
    def orders(self) -> dict[tuple[str, int], tuple[str, ...]]:
        """(suite id, seed) -> variant order of that block.

        The order is drawn from the frozen experiment alone. An extension keeps the orders of the blocks that it
        extends.
        """
        generations = [(expand_matrix(matrix), content_hash(matrix.content)) for matrix in self.older]
        return extend_block_orders([*generations, (self.suites, self.experiment_hash)], self.order_rule)

    @cached_property
    def _block_orders(self) -> BlockOrders:
        return BlockOrders(self.experiment_hash, tuple(self.matrix.matrix.variants), self.order_rule)

    def _order(self, suite: Suite, seed: int) -> tuple[str, ...]:
        """The variant order of a block without A/A repeats."""
        if self.older:
            return self.orders[suite.suite_id, seed]
        # The same as `orders`, without building every suite.
        return self._block_orders.get_order(self.suites.index_of(suite) * len(suite.seeds) + suite.seeds.index(seed))

    def order(self, suite: Suite, seed: int) -> tuple[str, ...]:
        """The variant order of a block. The first block of a suite contains the A/A repeats."""
        order = self._order(suite, seed)
        for variant in self.list_repeated(suite) if seed == suite.seeds[0] else ():
            order = insert_repeat(order, variant, suite.suite_id, self._first_hash)
        return order

    @cached_property
    def _first_hash(self) -> str:
        return content_hash((self.older or (self.matrix,))[0].content)

    def list_repeated(self, suite: Suite) -> list[str]:
        """The variants of a suite that are run a second time in its first block (A/A)."""
        return [variant for variant in suite.variants if variant in self.matrix.run.aa]

    def run_names(self, suite: Suite) -> Iterator[tuple[str, int]]:
        """(folder's name, seed) of every run of a suite, in no particular order."""
        yield from itertools.product(suite.variants, suite.seeds)
        yield from ((name_repeat(variant), suite.seeds[0]) for variant in self.list_repeated(suite))

    @cached_property
    def _claims_hash(self) -> str:
        return self.matrix.claims_hash

    def runs(self, suite: Suite) -> Iterator[Run]:
        """The runs of a suite in the order they run: block after block."""
        root = dataclasses.replace(self.paths, results=self.paths.results.resolve())
        for seed in suite.seeds:
            specs = build_run_specs(
                suite,
                seed,
                order := self.order(suite, seed),
                prefix=self.paths.prefix,
                device=self.matrix.run.device,
                data_root=self.matrix.run.data_root,
                claims_hash=self._claims_hash,
            )
            for spec, name in zip(specs, order, strict=True):  # an A/A repeat has a folder of its own
                yield Run(spec, root.run(suite.suite_id, name, seed))

    def row(self, suite: Suite) -> Row:
        """The manifest row of a suite, `pending`."""
        return Row(
            suite_id=suite.suite_id,
            dataset=suite.dataset,
            model=suite.model,
            failure_label=suite.failure_label,
            failure_steps=suite.failure_steps,
            checkpoint_every=suite.checkpoint_every,
            max_inflight=suite.max_inflight,
            nproc=suite.train.nproc,
            steps=suite.train.steps,
            seeds=suite.seeds,
            variants=suite.variants,
            axes=suite.axes_text,
            runs_total=len(suite.seeds) * len(suite.variants) + len(self.list_repeated(suite)),
        )

    def rows(self) -> Iterator[Row]:
        """A manifest row for every suite, all `pending`."""
        return map(self.row, self.suites)

    def copy_with_device(self, device: str) -> "Campaign":
        """A copy with the device decided. Call it before freezing: `resume` must not decide again."""
        run = self.matrix.run.model_copy(update={"device": device})
        return dataclasses.replace(self, matrix=self.matrix.model_copy(update={"run": run}))
