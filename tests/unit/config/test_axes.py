"""`[axes]`, `[[exclude]]`, `--set` and what claims choose: any key as an axis, and every mistake told."""

from pathlib import Path

import pytest

from ecrl.config.changes import find_additions
from ecrl.config.load import Override, load
from ecrl.config.matrix import Matrix
from ecrl.config.suite import Suites, build_run_specs, expand_matrix
from tests.errors import has_error, raises
from tests.unit.config.test_matrix import GOOD, problems


def written(tmp_path: Path, more: str = "", **replaced: str) -> Path:
    text = GOOD
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "m.toml"
    path.write_text(text + more)
    return path


def read(tmp_path: Path, more: str, *overrides: Override) -> Matrix:
    return load(written(tmp_path, more), overrides=overrides)


def suites(tmp_path: Path, more: str, *overrides: Override) -> Suites:
    return expand_matrix(read(tmp_path, more, *overrides))


def test_any_key_of_the_file_is_an_axis_and_its_value_is_the_suites_own(tmp_path: Path) -> None:
    axes = '[axes]\n"train.nproc" = [2, 4]\n"checkpoint.keep" = [2, 3]\n'
    every = suites(tmp_path, axes)
    assert len(every) == 4 * 4
    assert len({suite.suite_id for suite in every}) == 16
    assert {(s.train.nproc, s.checkpoint.keep) for s in every} == {(2, 2), (2, 3), (4, 2), (4, 3)}
    assert [every.index_of(suite) for suite in every] == list(range(16))
    assert every[5].axes_text == "train.nproc=2;checkpoint.keep=3"
    # ranks that are not given alternate over the suite's own ranks
    assert {f["rank"] for suite in every for f in suite.failures} == {0, 1}


def test_the_value_of_an_axis_makes_the_suite_that_the_same_setting_makes(tmp_path: Path) -> None:
    by_axis = {s.suite_id for s in suites(tmp_path, '[axes]\n"train.nproc" = [4]\n')}
    assert by_axis == {s.suite_id for s in suites(tmp_path, "")}, "an axis is hashed where its key is"
    whole = suites(tmp_path, '[axes]\n"train.lr" = [1]\n')
    assert {s.suite_id for s in whole} == {
        s.suite_id for s in suites(tmp_path, "", Override(("train", "lr"), 1.0, "--set train.lr"))
    }, "1 is 1.0 where a number may be broken"


def test_launchers_and_the_axis_train_launcher_are_one_thing(tmp_path: Path) -> None:
    by_axis = read(tmp_path, '[axes]\n"train.launcher" = ["cold", "warm"]\n')
    by_list = read(tmp_path, "", Override(("matrix", "launchers"), ["cold", "warm"], "x"))
    assert by_axis.content == by_list.content
    unquoted = read(tmp_path, '[axes]\ntrain.launcher = ["cold", "warm"]\n')
    assert unquoted.content == by_list.content
    both = problems(
        written(tmp_path, '[axes]\n"train.launcher" = ["cold"]\n'), Override(("matrix", "launchers"), ["cold"], "x")
    )
    assert has_error(both, "ECRL-213", "axes.train.launcher", "matrix.launchers")


@pytest.mark.parametrize("loc", [("train", "launcher"), ("matrix", "launchers")])
def test_a_launcher_is_one_of_the_folder_wherever_it_is_named(tmp_path: Path, loc: tuple[str, str]) -> None:
    value = "colt" if loc[0] == "train" else ["colt"]
    told = problems(written(tmp_path), Override(loc, value, "x"))
    assert has_error(told, "ECRL-211", loc[1], "'colt'", "'cold'", "cold, warm")


@pytest.mark.parametrize(
    ("axis", "code", "facts"),
    [
        ('"train.nprc" = [2]', "ECRL-213", ("axes.train.nprc", "'nprc'", "'nproc'")),
        ('"run.jobs" = [1, 2]', "ECRL-213", ("axes.run.jobs", "[run]")),
        ('"trian.nproc" = [2]', "ECRL-213", ("axes.trian.nproc", "'trian'", "'train'")),
        ('"train.nproc" = [2, 2]', "ECRL-211", ("axes.train.nproc", "2")),
        ('"train.lr" = [1, 1.0]', "ECRL-211", ("axes.train.lr", "1.0")),
        ('"train.nproc" = 2', "ECRL-213", ("axes.train.nproc", "found 2", "[2]")),
        ('"train.nproc" = []', "ECRL-211", ("axes.train.nproc",)),
        ('"train.nproc" = [0]', "ECRL-213", ("axes.train.nproc", "found 0", "1")),
        ('"train.optimizer" = ["sgd", "adma"]', "ECRL-213", ("axes.train.optimizer", "'adma'", "'sgd' or 'adamw'")),
        ('"train.nproc" = [1, 4]', "ECRL-212", ("failures.mixed", "rank 1", "nproc = 1")),
        ('"train.steps" = [500, 1600]', "ECRL-212", ("failures.base", "step 1200", "(500)")),
        ('"variants.ram.disk_every" = [1]', "ECRL-213", ("axes.variants.ram.disk_every", "'ram'")),
    ],
)
def test_what_cannot_be_an_axis_is_told_with_its_line(
    tmp_path: Path, axis: str, code: str, facts: tuple[str, ...]
) -> None:
    where = () if code == "ECRL-212" else (f"m.toml:{len(GOOD.splitlines()) + 2}: ",)
    assert has_error(problems(written(tmp_path, f"[axes]\n{axis}\n")), code, *facts, *where)


def test_cells_are_excluded_by_patterns_numbers_and_lists(tmp_path: Path) -> None:
    more = '[axes]\n"train.nproc" = [2, 4]\n[[exclude]]\ndataset = "cif*"\n"train.nproc" = 4\n'
    left = suites(tmp_path, more)
    assert len(left) == 8 - 2
    assert not [s for s in left if s.dataset == "cifar10" and s.train.nproc == 4]
    assert [left.index_of(suite) for suite in left] == list(range(6))
    assert list(left) == [left[i] for i in range(6)]
    assert sum(n for _, n in left.group_equivalent()) == 6
    listed = suites(tmp_path, '[[exclude]]\nfailure = ["mixed", "base"]\ndataset = "noise"\n')
    assert {s.dataset for s in listed} == {"cifar10"}


@pytest.mark.parametrize(
    ("table", "facts"),
    [
        ('[[exclude]]\nmodle = "x"\n', ("exclude #1", "'modle'", "'model'")),
        ("[[exclude]]\n", ("exclude #1: ",)),
        ('[[exclude]]\nmodel = "*"\n', ("exclude: ",)),
    ],
)
def test_an_exclusion_that_cannot_be_meant_is_told(tmp_path: Path, table: str, facts: tuple[str, ...]) -> None:
    assert has_error(problems(written(tmp_path, table)), "ECRL-215", *facts)


def test_set_overrides_any_key_and_is_named_where_it_is_wrong(tmp_path: Path) -> None:
    matrix = read(tmp_path, "", Override(("train", "steps"), 1500, "--set train.steps"))
    assert matrix.train_settings.steps == 1500
    told = problems(written(tmp_path), Override(("train", "stpes"), 40, "--set train.stpes"))
    assert has_error(told, "ECRL-210", "--set train.stpes: train.stpes: ", "'stpes'", "'steps'")
    axis = Override(("axes", "train.nproc"), [2, 3], "--set axes.train.nproc")
    assert len(suites(tmp_path, "", axis)) == 8


@pytest.mark.parametrize(
    ("claim", "code", "facts"),
    [
        (
            'compare = ["overlapped", "blocking"]\nof = "blocking"\nexpect = "ratio > 1"',
            "ECRL-211",
            ("claims #2: ", "both", "compare", "of"),
        ),
        ('expect = "ratio > 1"', "ECRL-211", ("claims #2: ", "neither", "compare", "of")),
        ('of = "blocking"\nexpect = "ratio > 1"', "ECRL-211", ("'ratio > 1' with of", "value or rate")),
        (
            'compare = ["overlapped", "blocking"]\nexpect = "value > 1"',
            "ECRL-211",
            ("claims #2: ", "'value > 1' with compare", "ratio"),
        ),
        ('of = "blokcing"\nexpect = "value > 1"', "ECRL-211", ("claims #2.of", "'blokcing'", "'blocking'")),
        ('of = "dcp"\nexpect = "value > 1"', "ECRL-216", ("claims #2.of", "'dcp'")),
        (
            'of = "blocking"\nexpect = "value > 1"\nwhere = { modle = "cnn" }',
            "ECRL-215",
            ("claims #2.where", "'modle'"),
        ),
        (
            'of = "blocking"\nexpect = "value > 1"\nwhere = { model = "resnet18" }',
            "ECRL-215",
            ("claims #2.where", "'resnet18'"),
        ),
        ('of = "blocking"\nexpect = "rate > 0.9"', "ECRL-211", ("'goodput_steps_per_s'", "'rate > 0.9'")),
        ('of = "blocking"\nmetric = "correct"\nexpect = "value > 0.9"', "ECRL-211", ("'correct'", "a number")),
        ('of = "blocking"\nexpect = "value > 1"\nsmallest = 0.0', "ECRL-211", ("claims #2.smallest", "found 0.0")),
    ],
)
def test_a_claim_that_cannot_be_judged_is_told(tmp_path: Path, claim: str, code: str, facts: tuple[str, ...]) -> None:
    assert has_error(problems(written(tmp_path, f'[[claims]]\nname = "x"\n{claim}\n')), code, *facts)


def test_new_keys_of_claims_leave_the_hash_of_older_claims_alone(tmp_path: Path) -> None:
    before = read(tmp_path, "").claims_hash
    same = written(tmp_path, "where = {}\n")
    assert load(same).claims_hash == before
    assert load(written(tmp_path, 'where = { dataset = "noise" }\n')).claims_hash != before


def test_failures_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    head, _, rest = GOOD.partition("[failures]")
    path.write_text(head + rest[rest.index("[train]") :])
    every = expand_matrix(load(path))
    assert {(s.failure_label, s.failure_steps) for s in every} == {("none", ())}
    blocking = build_run_specs(
        every[0], 1337, ("blocking",), prefix="p", device="cpu", data_root=None, claims_hash="c"
    )[0]
    assert blocking.failures == ()


def test_an_axis_may_grow_and_no_other_may_come(tmp_path: Path) -> None:
    two, three = (read(tmp_path, f'[axes]\n"train.nproc" = {v}\n') for v in ("[2, 4]", "[2, 4, 8]"))
    assert find_additions(two, three) == ["train.nproc: 8"]
    assert find_additions(three, two) is None
    assert find_additions(read(tmp_path, ""), two) is None


def test_the_same_file_beside_its_frozen_campaign_is_the_same_experiment(tmp_path: Path) -> None:
    more = '[axes]\n"train.nproc" = [2, 4]\n[[exclude]]\ndataset = "noise"\n"train.nproc" = 4\n'
    asked = read(tmp_path, more)
    frozen_path = tmp_path / "frozen.toml"
    frozen_path.write_text(asked.to_toml("x"))
    frozen = load(frozen_path, frozen=True)
    assert frozen == asked
    again = load(written(tmp_path, more), existing=frozen)
    assert (again.content, again.warnings) == (asked.content, ())
    without = load(written(tmp_path, ""), existing=frozen)
    assert without.content == asked.content, "the file may be older than the tables"
    assert [warning.partition(": ")[2].partition(":")[0] for warning in without.warnings] == ["axes", "exclude"]


def test_an_unknown_kind_of_experiment_is_told(tmp_path: Path) -> None:
    with raises("ECRL-211", "experiment.kind", "'trainin'"):
        read(tmp_path, '[experiment]\nkind = "trainin"\n')


# -- places of checkpoints -------------------------------------------------------------------------------------------


def test_the_place_of_checkpoints_identifies_suites_and_runs_as_an_axis_alone(tmp_path: Path) -> None:
    def hashes(every: Suites) -> set[str]:
        return {
            run.hash
            for suite in every
            for run in build_run_specs(
                suite, 1, suite.variants, prefix="p", device="cpu", data_root=None, claims_hash=""
            )
        }

    plain = suites(tmp_path, "")
    placed = suites(tmp_path, "", Override(("checkpoint", "dir"), "/mnt/nvme", "--set checkpoint.dir"))
    assert placed[0].checkpoint.places == ("/mnt/nvme",)
    assert [suite.suite_id for suite in placed] == [suite.suite_id for suite in plain]
    assert hashes(placed) == hashes(plain)
    compared = suites(tmp_path, '[axes]\n"checkpoint.dir" = ["/mnt/nvme", "/mnt/nfs"]\n')
    assert len({suite.suite_id for suite in compared}) == 2 * len(plain)
    assert len(hashes(compared)) == 2 * len(hashes(plain))
    assert "-mnt-nfs-" in compared[1].suite_id
    assert [suite.checkpoint.dir for suite in compared[:2]] == ["/mnt/nvme", "/mnt/nfs"]
    assert [compared.index_of(suite) for suite in compared] == list(range(len(compared)))


@pytest.mark.parametrize("folder", ["nvme", "./nvme", "~/nvme", "", "/"])
def test_a_place_is_an_absolute_path_wherever_it_is_named(tmp_path: Path, folder: str) -> None:
    told = problems(written(tmp_path), Override(("checkpoint", "dir"), folder, "x"))
    assert has_error(told, "ECRL-211", "checkpoint.dir", repr(folder), "absolute path")
    told = problems(written(tmp_path), Override(("checkpoint", "fallback_dirs"), ["/mnt/a", folder], "x"))
    assert has_error(told, "ECRL-211", "fallback_dirs #2", repr(folder))
    told = problems(written(tmp_path, f'[axes]\n"checkpoint.dir" = ["/mnt/a", "{folder}"]\n'))
    assert has_error(told, "ECRL-213", "axes.checkpoint.dir", "absolute path")


@pytest.mark.parametrize("folders", [["/mnt/b", "/mnt/b/"], ["/mnt/./a"]])
def test_a_folder_that_is_its_own_fallback_is_refused(tmp_path: Path, folders: list[str]) -> None:
    given = [
        Override(("checkpoint", "fallback_dirs"), folders, "x"),
        Override(("matrix", "variants"), ["blocking"], "x"),
    ]
    told = problems(written(tmp_path, '[axes]\n"checkpoint.dir" = ["/mnt/a", "/mnt/c"]\n'), *given)
    assert has_error(told, "ECRL-560", "checkpoint.fallback_dirs", "twice")


def test_a_place_that_is_no_axis_or_no_path_is_told_in_plain_words(tmp_path: Path) -> None:
    told = problems(written(tmp_path, '[axes]\n"checkpoint.fallback_dirs" = [["/a"], ["/b"]]\n'))
    assert has_error(told, "ECRL-213", "axes.checkpoint.fallback_dirs", "equal suites")
    told = problems(written(tmp_path, '[axes]\n"checkpoint.dir" = ["rel"]\n'))
    assert has_error(told, "ECRL-213", "axes.checkpoint.dir: found 'rel', expected the absolute path")
    told = problems(written(tmp_path), Override(("checkpoint", "fallback_dirs"), "/x", "x"))
    assert has_error(told, "ECRL-211", 'expected a list, e.g. fallback_dirs = ["/x"]')


def test_fallbacks_beside_an_engine_that_has_none_are_refused_by_its_name(tmp_path: Path) -> None:
    fallback = Override(("checkpoint", "fallback_dirs"), ["/mnt/a"], "x")
    able = load(written(tmp_path), overrides=[fallback, Override(("matrix", "variants"), ["blocking"], "x")])
    assert expand_matrix(able)[0].checkpoint.places == (None, "/mnt/a")
    told = problems(written(tmp_path), fallback, Override(("matrix", "variants"), ["blocking", "torch-save"], "x"))
    assert has_error(told, "ECRL-560", "checkpoint.fallback_dirs", "torch-save", "blocking, overlapped")
