"""Suites and runs: identity by content, fair orders, complete specs."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ecrl.config.block_order import build_block_orders, extend_block_orders
from ecrl.config.hashing import canonical_json, content_hash, identity, slug
from ecrl.config.load import Override, load
from ecrl.config.run import RunSpec
from ecrl.config.suite import Suite, Suites, build_run_specs, expand_matrix
from tests.errors import raises
from tests.unit.config.test_matrix import GOOD


def suites(tmp_path: Path, *overrides: Override) -> Suites:
    path = tmp_path / "m.toml"
    path.write_text(GOOD)
    return expand_matrix(load(path, overrides=overrides))


def runs(suite: Suite, **changes: str) -> list[RunSpec]:
    told = {"prefix": "p", "device": "cpu", "data_root": None, "claims_hash": "c"} | changes
    return build_run_specs(suite, 1337, suite.variants, **told)  # type: ignore[arg-type]


def test_a_suite_is_named_by_what_it_is_and_not_by_where_it_stands(tmp_path: Path) -> None:
    every = suites(tmp_path)
    assert len(every) == 4
    assert len({suite.suite_id for suite in every}) == 4
    assert every[0].suite_id.startswith("cifar10-cnn-base-k50-q4-")
    alone = suites(tmp_path, Override(("matrix", "datasets"), ["noise"], "x"))
    assert {s.suite_id for s in alone} < {s.suite_id for s in every}
    more = suites(tmp_path, Override(("matrix", "seeds"), [1, 2, 3], "x"))
    assert [s.suite_id for s in more] == [s.suite_id for s in every], "seeds add runs, they change no suite"
    other = suites(tmp_path, Override(("train", "steps"), 1601, "x"))
    assert {s.suite_id for s in other}.isdisjoint(s.suite_id for s in every)


def test_a_setting_of_a_later_version_is_told_where_it_differs_from_what_0_1_0_did(tmp_path: Path) -> None:
    (plain, *_), (auto, *_), (gloo, *_), (both, *_) = (
        suites(tmp_path, *(Override(("train", key), value, "x") for key, value in given.items()))
        for given in ({}, {"backend": "auto"}, {"backend": "gloo"}, {"backend": "gloo", "launcher": "warm"})
    )
    assert plain.suite_id == auto.suite_id
    assert gloo.suite_id.startswith("cifar10-cnn-base-k50-q4-gloo-")
    assert both.suite_id.startswith("cifar10-cnn-base-k50-q4-warm-gloo-")


def test_the_place_of_a_suite_is_where_it_is_met(tmp_path: Path) -> None:
    every = suites(
        tmp_path,
        Override(("matrix", "launchers"), ["warm", "cold"], "x"),
        Override(("matrix", "max_inflight"), [3, 1, 2], "x"),
    )
    assert [every.index_of(suite) for suite in every] == list(range(len(every)))
    assert list(every) == [every[place] for place in range(len(every))] == every[:]


def test_ranks_that_are_not_given_alternate(tmp_path: Path) -> None:
    assert [f["rank"] for f in suites(tmp_path)[0].failures] == [0, 1]
    assert [f["rank"] for f in suites(tmp_path)[1].failures] == [1, 1]


def test_the_reference_has_neither_failures_nor_checkpoints(tmp_path: Path) -> None:
    reference, blocking, _ = runs(suites(tmp_path)[0])
    assert (reference.failures, reference.checkpoints_requested) == ((), 0)
    assert (len(blocking.failures), blocking.checkpoints_requested) == (2, 32)


def test_each_order_comes_equally_often_and_depends_on_the_seed_text_alone(tmp_path: Path) -> None:
    every = suites(tmp_path, Override(("matrix", "seeds"), list(range(1, 10)), "x"))  # 36 blocks, 6 orders
    orders = build_block_orders(every, "a")
    assert set(Counter(orders.values()).values()) == {6}
    assert orders == build_block_orders(every, "a") != build_block_orders(every, "b")


def test_a_runs_hash_is_of_what_decides_its_outcome(tmp_path: Path) -> None:
    suite = suites(tmp_path)[0]
    first = runs(suite)[1]
    assert runs(suite, prefix="elsewhere")[1].hash == first.hash
    assert runs(suite, device="cuda")[1].hash != first.hash
    assert runs(suite)[2].hash != first.hash


def test_run_json_reads_back_and_an_edit_is_noticed(tmp_path: Path) -> None:
    spec, path = runs(suites(tmp_path)[0])[1], tmp_path / "run.json"
    spec.write(path)
    assert RunSpec.read(path) == spec
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"seed": 1}))
    with raises("ECRL-403", str(path), "run_hash"):
        RunSpec.read(path)
    path.write_text("{}")
    with raises("ECRL-403", str(path), "schema"):
        RunSpec.read(path)
    path.unlink()
    with raises("ECRL-403", str(path)):
        RunSpec.read(path)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_one_content_has_one_hash_whatever_the_order_of_its_keys(content: dict[str, object]) -> None:
    assert content_hash(content) == content_hash(dict(reversed(content.items())))
    assert json.loads(canonical_json(content)) == content


@given(st.text())
def test_a_slug_is_safe_in_a_folder_name(text: str) -> None:
    made = slug(text)
    assert made == slug(made)
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")


def test_a_suite_is_made_when_it_is_asked_for_and_its_id_is_the_hash_of_its_content(tmp_path: Path) -> None:
    lazy = suites(tmp_path)
    assert [suite.suite_id for suite in lazy] == [lazy[place].suite_id for place in range(len(lazy))]
    for suite in lazy:
        assert suite.suite_id.endswith(content_hash(identity(suite))[:8])
    assert lazy[-1] == lazy[len(lazy) - 1]


def test_a_million_cells_cost_nothing_until_they_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(GOOD)
    matrix = load(path)
    axes = matrix.matrix.model_copy(update={"checkpoint_every": [*range(1, 1001)], "max_inflight": [*range(1, 1001)]})
    lazy = expand_matrix(matrix.model_copy(update={"matrix": axes}))
    assert len(lazy) >= 1_000_000
    assert lazy[len(lazy) - 1].checkpoint_every == 1000


def test_an_extension_keeps_the_orders_that_were_dealt_and_appends_new_variants(tmp_path: Path) -> None:
    every = suites(tmp_path)
    before = build_block_orders(every, "a")
    grown = [dataclasses.replace(suite, variants=(*suite.variants, "other")) for suite in every]
    after = extend_block_orders([(every, "a"), (grown, "b")])
    assert {block: order[:-1] for block, order in after.items()} == before
    assert {order[-1] for order in after.values()} == {"other"}
