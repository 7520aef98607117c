"""Which suites a command is about."""

from collections.abc import Mapping

import pytest

from ecrl.errors import EcrlError
from ecrl.launch.campaign.selection import Selection, parse_terms, resolve_suite_name
from ecrl.records.manifest.store import Row


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
    ("only", "message"),
    [
        ("datset=cifar10", "unknown key 'datset'. Did you mean 'dataset'?"),
        ("dataset=cifar1", "unknown dataset 'cifar1'. Did you mean 'cifar10'?"),
        ("model=cnn|resnt18", "unknown model 'resnt18'. Did you mean 'resnet18'?"),
        ("status=complete", "Did you mean 'completed'?"),
        ("", "found '', expected e.g."),
        (" ,", "found ',', expected e.g."),
        ("dataset", "found 'dataset', expected e.g."),
        ("dataset=", "found 'dataset=', expected e.g."),
        ("checkpoint_every<many", "found 'many', expected a whole number"),
        ("model<3", "model is no number"),
        ("model~[", "is no regular expression"),
        ("variant=blocking", "run together"),
        ("dataset=cifar10,model=cnn", "no suite of 4 fulfils 'dataset=cifar10,model=cnn'"),
    ],
)
def test_what_cannot_be_meant_is_said_with_the_nearest_name(only: str, message: str) -> None:
    with pytest.raises(EcrlError) as raised:
        chosen(only)
    assert message in str(raised.value)
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
    with pytest.raises(
        EcrlError, match="'noise' is part of 2 suite ids, expected one: noise-cnn-k50-3333, noise"
    ) as one:
        resolve_suite_name("noise", ROWS, "--prefix x", "--rerun")
    assert str(one.value).splitlines()[-1] == "Type more of it, e.g. --rerun noise-cnn-k50-3333"
    with pytest.raises(EcrlError, match=r"--rerun: unknown suite 'nois-cnn-k50-3333'. Did you mean 'noise-cnn-k50-33"):
        resolve_suite_name("nois-cnn-k50-3333", ROWS, "--prefix x", "--rerun")


def test_no_name_is_no_part_of_the_only_suite() -> None:
    (one, *_) = ROWS
    with pytest.raises(EcrlError, match="--rerun: found '', expected a suite id or a part of one"):
        resolve_suite_name("", {one: ROWS[one]}, "--prefix x", "--rerun")
