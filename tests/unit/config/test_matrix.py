"""Matrix files: merging, and every problem in one pass with file, line, key, did-you-mean and valid names."""

from pathlib import Path

import pytest

from ecrl.config.load import Override, load
from ecrl.config.matrix import Matrix, find_differences
from ecrl.errors import InvalidMatrixError

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
    with pytest.raises(InvalidMatrixError) as told:
        load(path, profile=profile, overrides=overrides)
    return str(told.value)


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
    assert f"{path}:2: matrix.datasets.0: unknown dataset 'cifarr10'. Did you mean 'cifar10'? Valid: cifar10" in told
    assert f"{path}:7: failures.base.0.at: found 0, expected greater than or equal to 1" in told
    assert f"{path}:10: train.steps: found 'many', expected integer" in told
    assert f"{path}:11: train.batchsize: unknown key 'batchsize'. Did you mean 'batch_size'?" in told
    assert told.splitlines()[-1].endswith("nothing was started.")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[400, 1200]", "[400, 1700]", "7: failures.base: found a failure at step 1700, past the last step (1600)"),
        ("[400, 1200]", "[400, 400]", "7: failures.base: found step 400 twice, expected each step once"),
        ("rank = 1", "rank = 4", "8: failures.mixed: found rank 4, expected a rank below nproc = 4"),
        ('"kill"', '"kil"', "8: failures.mixed.0.kind: unknown failure kind 'kil'. Did you mean 'kill'?"),
        ("[1337]", "[]", "5: matrix.seeds: found it empty, expected at least one value"),
        ("[1337]", "[1, 1]", "5: matrix.seeds: 1 stands there more than once"),
        ("[1337]", "[-1]", "5: matrix.seeds.0: found -1, expected greater than or equal to 0"),
        ('["cnn"]', '["resnet19"]', "3: matrix.models.0: unknown model 'resnet19'. Did you mean 'resnet18'?"),
        ("seeds", "seed", "5: matrix.seed: unknown key 'seed'. Did you mean 'seeds'?"),
        ("[50]", "[50, 1601]", "4: matrix.checkpoint_every: found 1601, past the last step (1600)"),
        ("[50]", "[50.5]", "4: matrix.checkpoint_every.0: found 50.5, expected integer"),
        ('"blocking"]', '"blokcing"]', "17: claims.0.compare.1: unknown variant 'blokcing'. Did you mean 'blocking'?"),
        ("ratio > 1.00", "better", "18: claims.0.expect: found 'better', expected e.g. 'ratio > 1.00'"),
        ("[failures]", "[failure]", "unknown key 'failure'. Did you mean 'failures'?"),
        ("[profiles.small]", "[train.small]", "12: train.small: unknown key 'small'"),
        ("base =", '"a b" =', "found label 'a b', expected at most 40 letters"),
        ("[1337]", '[1337]\nvariants = ["reference", "blocking"]', "claims.0.compare: unknown variant of this matrix"),
    ],
)
def test_what_cannot_be_run_is_told_where_it_stands(path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1))
    assert expected in problems(path)


def test_nccl_on_the_cpu_is_told_where_either_stands(path: Path) -> None:
    path.write_text(GOOD.replace("nproc = 4", 'nproc = 4\nbackend = "nccl"'))
    assert load(path).train_settings.get_backend("cuda") == "nccl"
    told = problems(path, Override(("run", "device"), "cpu", "--device"))
    assert f"{path}:12: train.backend: found 'nccl', expected 'auto' or 'gloo'" in told
    assert "NCCL needs GPUs, and the device is cpu (--device)" in told


def test_a_value_from_a_flag_or_the_environment_is_told_by_that_name(path: Path) -> None:
    told = problems(
        path,
        Override(("matrix", "max_inflight"), [0], "--max-inflight"),
        Override(("matrix", "seeds"), ["x"], "SEEDS_CSV"),
        Override(("matrix", "failures"), ["bse"], "--failures"),
    )
    assert "--max-inflight: matrix.max_inflight.0: found 0, expected greater than or equal to 1" in told
    assert "SEEDS_CSV: matrix.seeds.0: found 'x', expected integer" in told
    assert "--failures: unknown failure schedule 'bse'. Did you mean 'base'?" in told


def test_a_flag_may_narrow_variants_that_claims_are_about(path: Path) -> None:
    load(path, overrides=[Override(("matrix", "variants"), ["reference"], "--variants")])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[matrix", "not valid TOML"),
        ("", "matrix: not found"),
        ("profiles = 3", "profiles: expected tables"),
        ("matrix = 3", "matrix: found 3, expected a table"),
    ],
)
def test_files_that_are_no_matrix(path: Path, text: str, expected: str) -> None:
    path.write_text(text)
    assert expected in problems(path, profile="small")


def test_a_missing_file_and_an_unknown_profile_list_what_there_is(path: Path) -> None:
    assert "no such matrix file" in problems(path.with_name("absent.toml"))
    assert "unknown profile 'smal'. Did you mean 'small'?" in problems(path, profile="smal")
    path.write_bytes(b"\xff\xfe")
    assert "cannot be read as UTF-8" in problems(path)


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
