"""Which suites a command is about."""

from collections.abc import Mapping

import pytest

from ecrl.launch.campaign.selection import Selection, parse_terms, resolve_suite_name
from ecrl.records.manifest.store import Row
from tests.errors import raises


def row(suite_id: str, dataset: str, model: str, every: int, status: str = "pending") -> Row:
    return Row(
        suite_id=suite_id, dataset=dataset, model=model, failure_label="base", failure_steps=(3,),
        checkpoint_every=every, max_inflight=4, nproc=2, steps=6, seeds=(1,), variants=("reference", "blocking"),
        runs_total=2, status=status,
    )  # fmt: skip


ROWS: Mapping[str, Row] = {
    r.suite_id: r
    for r in (
        row("cifar10-resnet18-k50-1111", "cifar10", "resnet18", 50),
        row("cifar10-resnet50-k100-2222", "cifar10", "resnet50", 100, "completed"),
        row("noise-cnn-k50-3333", "noise", "cnn", 50, "failed"),
        row("noise-cnn-k100-4444", "noise", "cnn", 100),
    )
}


def chosen(only: str, **more: object) -> list[str]:
    selection = Selection(parse_terms(only), **more)  # type: ignore[arg-type]
    selection.check(ROWS)
    return [suite_id[-4:] for suite_id in selection.select(ROWS, ROWS)]


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ("dataset=cifar10", ["1111", "2222"]),
        ("dataset=cifar10,model~resnet", ["1111", "2222"]),
        ("model~RESNET(18|34)", ["1111"]),
        ("dataset!=cifar10, checkpoint_every<=50", ["3333"]),
        ("checkpoint_every>50", ["2222", "4444"]),
        ("model=cnn|resnet50", ["2222", "3333", "4444"]),
        ("status=pending,model!~res", ["4444"]),
        ("suite~k100", ["2222", "4444"]),
        ("failure=base", ["1111", "2222", "3333", "4444"]),
    ],
)
def test_terms_must_all_hold(only: str, expected: list[str]) -> None:
    assert chosen(only) == expected


@pytest.mark.parametrize(
    ("only", "code", "facts"),
    [
        ("datset=cifar10", "ECRL-320", ("'datset'", "'dataset'")),
        ("dataset=cifar1", "ECRL-320", ("'cifar1'", "'cifar10'")),
        ("model=cnn|resnt18", "ECRL-320", ("'resnt18'", "'resnet18'")),
        ("status=complete", "ECRL-320", ("'complete'", "'completed'")),
        ("", "ECRL-320", ("found ''",)),
        (" ,", "ECRL-320", ("found ','",)),
        ("dataset", "ECRL-320", ("found 'dataset'",)),
        ("dataset=", "ECRL-320", ("found 'dataset='",)),
        ("checkpoint_every<many", "ECRL-320", ("checkpoint_every<", "'many'")),
        ("model<3", "ECRL-320", ("model ", " <")),
        ("model~[", "ECRL-320", ("model: ", "'['")),
        ("variant=blocking", "ECRL-320", ("'variant'", "--variant")),
        ("dataset=cifar10,model=cnn", "ECRL-321", ("4", "'dataset=cifar10,model=cnn'")),
    ],
)
def test_what_cannot_be_meant_is_said_with_the_nearest_name(only: str, code: str, facts: tuple[str, ...]) -> None:
    with raises(code, "--only: ", *facts) as raised:
        chosen(only)
    assert raised.value.exit_code == 2
    assert len(str(raised.value).splitlines()) <= 3


def test_a_limit_takes_the_first_of_what_is_chosen() -> None:
    assert chosen("model~cnn", limit=1) == ["3333"]
    assert chosen("failure=base", limit=9) == ["1111", "2222", "3333", "4444"]


def test_rerun_takes_its_suites_alone_though_they_are_done() -> None:
    selection = Selection(rerun=("2222", "noise-cnn-k50-3333"))
    selection.check(ROWS)
    assert selection.select(["noise-cnn-k100-4444"], ROWS) == ["cifar10-resnet50-k100-2222", "noise-cnn-k50-3333"]


def test_a_suite_is_found_by_any_part_that_it_alone_has() -> None:
    assert resolve_suite_name("3333", ROWS, "--prefix x") == "noise-cnn-k50-3333"
    with raises("ECRL-323", "'noise'", "2", "noise-cnn-k50-3333, noise-cnn-k100-4444", "--rerun noise-cnn-k50-3333"):
        resolve_suite_name("noise", ROWS, "--prefix x", "--rerun")
    with raises("ECRL-322", "--rerun: ", "'nois-cnn-k50-3333'", "'noise-cnn-k50-3333'"):
        resolve_suite_name("nois-cnn-k50-3333", ROWS, "--prefix x", "--rerun")


def test_no_name_is_no_part_of_the_only_suite() -> None:
    (one, *_) = ROWS
    with raises("ECRL-322", "--rerun: found ''", "ecrl matrix status --prefix x"):
        resolve_suite_name("", {one: ROWS[one]}, "--prefix x", "--rerun")
