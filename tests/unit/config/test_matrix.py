"""Matrix files: merging, and every problem in one pass with file, line, key, did-you-mean and valid names."""

from pathlib import Path

import pytest

from ecrl.config.load import Override, load
from ecrl.config.matrix import Matrix, find_differences
from ecrl.config.suite import expand_matrix
from ecrl.errors import InvalidMatrixError
from tests.errors import has_error, raises

SHIPPED = Path(__file__).parents[3] / "matrices"
GOOD = """\
[matrix]
datasets = ["cifar10", "noise"]
models = ["cnn"]
checkpoint_every = [50]
seeds = [1337]
[failures]
base = [400, 1200]
mixed = [{ at = 425, kind = "kill", rank = 1 }, 900]
[train]
steps = 1600
nproc = 4
[profiles.small]
matrix.seeds = [1]
train.steps = 1500
[[claims]]
name = "overlapping pays"
compare = ["overlapped", "blocking"]
expect = "ratio > 1.00"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "m.toml"
    path.write_text(GOOD)
    return path


def problems(path: Path, *overrides: Override, profile: str | None = None) -> str:
    with pytest.raises(InvalidMatrixError) as raised:
        load(path, profile=profile, overrides=overrides)
    return raised.value.format_message()


def test_a_good_matrix_has_its_values_and_defaults(path: Path) -> None:
    matrix = load(path)
    assert matrix.matrix.variants == ["reference", "blocking", "overlapped"]
    assert (matrix.train_settings.nproc, matrix.checkpoint_settings.keep) == (4, 2)
    assert [entry.at for entry in matrix.failures["mixed"]] == [425, 900]


def test_flags_win_over_the_profile_and_the_profile_over_the_file(path: Path) -> None:
    matrix = load(path, profile="small", overrides=[Override(("train", "steps"), 1400, "x")])
    assert (matrix.matrix.seeds, matrix.train_settings.steps) == ([1], 1400)
    picked = load(path, overrides=[Override(("matrix", "failures"), ["mixed"], "--failures")])
    assert list(picked.failures) == ["mixed"]


def test_every_problem_is_told_in_one_pass_with_file_line_and_key(path: Path) -> None:
    text = GOOD.replace("cifar10", "cifarr10").replace("steps = 1600", 'steps = "many"\nbatchsize = 3')
    path.write_text(text.replace("[400, 1200]", "[0, 1200]"))
    told = problems(path)
    assert has_error(told, "ECRL-211", f"{path}:2: matrix.datasets #1", "'cifarr10'", "'cifar10'")
    assert has_error(told, "ECRL-211", f"{path}:7: failures.base #1.at", "found 0", "1")
    assert has_error(told, "ECRL-211", f"{path}:10: train.steps", "'many'", "integer")
    assert has_error(told, "ECRL-210", f"{path}:11: train.batchsize", "'batchsize'", "'batch_size'")
    assert len(told.splitlines()) == 5


@pytest.mark.parametrize(
    ("old", "new", "code", "facts"),
    [
        ("[400, 1200]", "[400, 1700]", "ECRL-212", ("7: failures.base: ", "step 1700", "(1600)")),
        ("[400, 1200]", "[400, 400]", "ECRL-212", ("7: failures.base: ", "step 400")),
        ("rank = 1", "rank = 4", "ECRL-212", ("8: failures.mixed: ", "rank 4", "nproc = 4")),
        ('"kill"', '"kil"', "ECRL-211", ("8: failures.mixed #1.kind: ", "'kil'", "'kill'")),
        ("[1337]", "[]", "ECRL-211", ("5: matrix.seeds: ",)),
        ("[1337]", "[11, 11]", "ECRL-211", ("5: matrix.seeds: ", "11")),
        ("[1337]", "[-1]", "ECRL-211", ("5: matrix.seeds #1: ", "found -1", "0")),
        ('["cnn"]', '["resnet19"]', "ECRL-211", ("3: matrix.models #1: ", "'resnet19'", "'resnet18'")),
        ("seeds", "seed", "ECRL-210", ("5: matrix.seed: ", "'seed'", "'seeds'")),
        ("[50]", "[50, 1601]", "ECRL-212", ("4: matrix.checkpoint_every: ", "found 1601", "(1600)")),
        ("[50]", "[50.5]", "ECRL-211", ("4: matrix.checkpoint_every #1: ", "found 50.5", "integer")),
        ('"blocking"]', '"blokcing"]', "ECRL-211", ("17: claims #1.compare #2: ", "'blokcing'", "'blocking'")),
        ("ratio > 1.00", "better", "ECRL-211", ("18: claims #1.expect: ", "'better'", "'ratio > 1.00'")),
        ("expect", 'metric = "ettr"\nexpect', "ECRL-216", ("18: claims #1.metric: ", "'ettr'", "ettr_ref")),
        ("[1337]", "1337", "ECRL-211", ("5: matrix.seeds: ", "found 1337", "seeds = [1337]")),
        ('["cnn"]', '"cnn"', "ECRL-211", ("3: matrix.models: ", "found 'cnn'", 'models = ["cnn"]')),
        (
            "[400, 1200]",
            '["400", 1200]',
            "ECRL-211",
            ("7: failures.base #1: ", "'400'", "(400, without quotes)"),
        ),
        ("[400, 1200]", "[[400]]", "ECRL-211", ("7: failures.base #1: ", "[400]", "a step (12, without quotes)")),
        ("rank = 1", "wen = 1", "ECRL-210", ("'wen'", "at (the step; ", "phase (the phase of ", "rank (the rank ")),
        ("[failures]", "[failure]", "ECRL-210", ("'failure'", "'failures'")),
        ("[profiles.small]", "[train.small]", "ECRL-210", ("12: train.small: ", "'small'")),
        ("base =", '"a b" =', "ECRL-212", ("'a b'", "40")),
        ("[1337]", '[1337]\nvariants = ["reference", "blocking"]', "ECRL-216", ("claims #1.compare", "'overlapped'")),
    ],
)
def test_what_cannot_be_run_is_told_where_it_stands(
    path: Path, old: str, new: str, code: str, facts: tuple[str, ...]
) -> None:
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    assert has_error(problems(path), code, *facts)


def test_a_frozen_claim_by_a_metric_that_misleads_still_loads(path: Path) -> None:
    path.write_text(GOOD.replace("expect", 'metric = "ettr"\nexpect', 1))
    frozen = load(path, frozen=True)
    assert frozen.claims[0].metric == "ettr"
    assert load(path, existing=frozen).claims == frozen.claims


@pytest.mark.parametrize("name", ["exp4", "exp4-cpu"])
def test_the_shipped_experiments_strike_inside_checkpoint_intervals_too(name: str) -> None:
    """A failure on a boundary costs a blocking engine no replay, so a schedule of such failures measures none."""
    suites = expand_matrix(load(SHIPPED / f"{name}.toml"))
    on_boundary = {
        suite.failure_label: {planned["at"] % suite.checkpoint_every == 0 for planned in suite.failures}
        for suite in suites
    }
    assert {False} in on_boundary.values()
    if name == "exp4":
        assert on_boundary == {"inside": {False}, "base": {True}, "late": {True}}
        assert len(suites) == 12


def test_nccl_on_the_cpu_is_told_where_either_stands(path: Path) -> None:
    path.write_text(GOOD.replace("nproc = 4", 'nproc = 4\nbackend = "nccl"'))
    assert load(path).train_settings.get_backend("cuda") == "nccl"
    told = problems(path, Override(("run", "device"), "cpu", "--device"))
    assert has_error(told, "ECRL-217", f"{path}:12: train.backend", "'nccl'", "'auto' or 'gloo'", "cpu (--device)")


def test_a_value_from_a_flag_or_the_environment_is_told_by_that_name(path: Path) -> None:
    told = problems(
        path,
        Override(("matrix", "max_inflight"), [0], "--max-inflight"),
        Override(("matrix", "seeds"), ["x"], "SEEDS_CSV"),
        Override(("matrix", "failures"), ["bse"], "--failures"),
    )
    assert has_error(told, "ECRL-211", "--max-inflight: matrix.max_inflight #1", "found 0", "1")
    assert has_error(told, "ECRL-211", "SEEDS_CSV: matrix.seeds #1", "'x'", "integer")
    assert has_error(told, "ECRL-219", "--failures: ", "'bse'", "'base'")


def test_a_flag_may_narrow_variants_that_claims_are_about(path: Path) -> None:
    load(path, overrides=[Override(("matrix", "variants"), ["reference"], "--variants")])


@pytest.mark.parametrize(
    ("text", "code", "facts"),
    [
        ("[matrix\nx", "ECRL-203", ("line 1",)),
        ("", "ECRL-211", (": matrix: ",)),
        ("profiles = 3", "ECRL-211", (": profiles: ", "[profiles.small]")),
        ("matrix = 3", "ECRL-211", (": matrix: ", "found 3")),
    ],
)
def test_files_that_are_no_matrix(path: Path, text: str, code: str, facts: tuple[str, ...]) -> None:
    path.write_text(text)
    assert has_error(problems(path, profile="small"), code, str(path), *facts)


def test_a_missing_file_and_an_unknown_profile_list_what_there_is(path: Path) -> None:
    assert has_error(problems(path.with_name("absent.toml")), "ECRL-201", "absent.toml", f"ls {path.parent}")
    assert has_error(problems(path, profile="smal"), "ECRL-219", "--profile: ", "'smal'", "'small'")
    path.write_bytes(b"\xff\xfe")
    assert has_error(problems(path), "ECRL-202", str(path), "UTF-8")


def test_what_is_frozen_reads_back_as_the_same_matrix(path: Path) -> None:
    matrix = load(path, profile="small")
    path.write_text(matrix.to_toml("one\ntwo"))
    again = load(path, frozen=True)
    assert again == matrix
    assert again.content == matrix.content
    assert path.read_text().startswith('# one\n# two\n[experiment]\nkind = "training"\n\n[matrix]')


def test_the_experiment_is_everything_but_how_patiently_it_is_run(path: Path) -> None:
    def changed(key: str, value: object) -> Matrix:
        return load(path, overrides=[Override(("run", key), value, key)])

    assert changed("retries", 2).content == load(path).content
    assert find_differences(load(path), changed("device", "cpu")) == ["device: auto -> cpu"]
    longer = load(path, overrides=[Override(("train", "steps"), 1601, "x")])
    assert find_differences(load(path), longer) == ["train.steps: 1600 -> 1601"]


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("steps = 1600", "steps = 1600\nlr = inf", "train.lr"),
        ("steps = 1600", "steps = 1600\nlr = 1e400", "train.lr"),
        ("steps = 1600", "steps = 1600\nweight_decay = inf", "train.weight_decay"),
        ("steps = 1600", "steps = 1600\nlr = nan", "train.lr"),
        ("base = [400, 1200]", "base = [{ mtbf_s = inf, seed = 1 }]", "failures.base #1.mtbf_s"),
        ("base = [400, 1200]", "base = [{ mtbf_s = 1e300, seed = 1, count = 900 }]", "failures.base #1.mtbf_s"),
        ("[train]", '[axes]\n"train.lr" = [0.1, inf]\n[train]', "axes"),
        ("[train]", '[[exclude]]\n"train.lr" = inf\n[train]', "exclude #1.train.lr"),
        ('"ratio > 1.00"', f'"ratio > {"9" * 400}"', "claims #1.expect"),
        ('"ratio > 1.00"', '"ratio > 1.00"\nsmallest = inf', "claims #1.smallest"),
        ("[train]", "[checkpoint]\ncommit_timeout_s = inf\n[train]", "checkpoint.commit_timeout_s"),
    ],
)
def test_every_number_is_finite(path: Path, old: str, new: str, key: str) -> None:
    path.write_text(GOOD.replace(old, new))
    told = problems(path)
    assert has_error(told, "ECRL-211", str(path), key, "found", "expected") or has_error(told, "ECRL-213", key), told


def test_an_endless_timeout_is_none(path: Path) -> None:
    path.write_text(f"{GOOD}[run]\ntimeout_s = inf\n")
    assert load(path).run.timeout_s is None


def test_a_byte_order_mark_is_read_over(path: Path) -> None:
    before = load(path)
    path.write_text(GOOD, encoding="utf-8-sig")
    assert load(path) == before


@pytest.mark.parametrize("deep", ["x = " + "[" * 5000, "x = " + "{a=" * 5000])
def test_deep_nesting_is_refused(path: Path, deep: str) -> None:
    path.write_text(f"{deep}\n{GOOD}")
    assert has_error(problems(path), "ECRL-203", str(path), "deep")


@pytest.mark.parametrize(
    ("old", "new", "facts"),
    [
        ("datasets", "dataset", ("2: matrix.dataset: ", "'dataset'", "'datasets'")),
        ("steps = 1600", "step = 1600", ("10: train.step: ", "'step'", "'steps'")),
        ("[train]", "[trian]", ("9: trian: ", "'trian'", "'train'")),
    ],
)
def test_a_misspelt_required_key_is_one_problem(path: Path, old: str, new: str, facts: tuple[str, ...]) -> None:
    path.write_text(GOOD.replace(old, new, 1))
    told = problems(path)
    assert has_error(told, "ECRL-210", *facts)
    assert len(told.splitlines()) == 2, told


def test_a_missing_key_beside_an_unlike_unknown_one_are_two_problems(path: Path) -> None:
    path.write_text(GOOD.replace("steps = 1600", "zzz = 1600", 1))
    told = problems(path)
    assert has_error(told, "ECRL-210", "train.zzz: ")
    assert has_error(told, "ECRL-211", "train.steps: ")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[matrix]\nseeds = [1, 2\n", 2),
        ("[matrix]\nseeds = [\n  1,\n  2,\n\n[train]\nsteps = 4\n", 2),
        ('[a]\nok = [\n  1,\n]\nx = """long\ntext\n', 5),
        ("[a]\nx =\n[b]\n", 2),
        ("x", 1),
    ],
)
def test_no_toml_is_told_with_the_line_where_the_mistake_begins(path: Path, text: str, line: int) -> None:
    path.write_text(text)
    with raises("ECRL-203", f"{path}:{line}: "):
        load(path)
