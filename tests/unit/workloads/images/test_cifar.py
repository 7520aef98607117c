"""Both CIFAR sets: the files they accept, and that nothing is unpickled before its md5 was seen."""

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torchvision

from ecrl import plugins
from ecrl.workloads.images.cifar import CifarDataset, reader_class
from tests.errors import raises
from tests.unit.workloads import cifar_miniature


@pytest.fixture(params=list(cifar_miniature.FILES))
def dataset(request: pytest.FixtureRequest) -> CifarDataset:
    plugin = plugins.load("dataset", request.param)
    assert isinstance(plugin, CifarDataset)
    return plugin


def first_file(dataset: CifarDataset, root: Path) -> Path:
    return root / dataset.folder_name / next(iter(dataset.published_md5))


def test_the_published_md5s_and_the_folder_are_torchvisions(dataset: CifarDataset) -> None:
    stock = getattr(torchvision.datasets, dataset.torchvision_class)
    expected = dict([*stock.train_list, *stock.test_list, (stock.meta["filename"], stock.meta["md5"])])
    assert dataset.published_md5 == expected
    assert dataset.folder_name == stock.base_folder


def test_with_the_published_table_the_reader_is_the_stock_one(dataset: CifarDataset) -> None:
    stock = getattr(torchvision.datasets, dataset.torchvision_class)
    reader = reader_class(dataset.torchvision_class, dataset.published_md5)
    assert (reader.train_list, reader.test_list, reader.meta) == (stock.train_list, stock.test_list, stock.meta)


def test_a_declared_miniature_gives_its_images_in_file_order(dataset: CifarDataset, tmp_path: Path) -> None:
    pixels, labels = cifar_miniature.write(tmp_path, dataset.name)
    data = dataset.load(tmp_path)
    np.testing.assert_array_equal(data.images.numpy(), pixels)
    assert data.labels.tolist() == labels
    assert data.repacked


def test_the_pickles_are_of_the_kind_that_makes_numpy_warn(dataset: CifarDataset, tmp_path: Path) -> None:
    # otherwise the miniature would not show that the published files load with warnings as errors
    cifar_miniature.write(tmp_path, dataset.name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pickle.loads(first_file(dataset, tmp_path).read_bytes())
    newer_numpy = tuple(int(part) for part in np.__version__.split(".")[:2]) >= (2, 4)
    assert [str(w.message)[:14] for w in caught] == (["dtype(): align"] if newer_numpy else [])


def test_a_table_given_by_the_caller_stands_in_for_the_file(dataset: CifarDataset, tmp_path: Path) -> None:
    cifar_miniature.write(tmp_path, dataset.name, declare=False)
    with raises("ECRL-508", "md5", "checksums.json"):
        dataset.check(tmp_path)
    table = cifar_miniature.table(tmp_path / dataset.folder_name)
    dataset.check(tmp_path, table)
    assert dataset.load(tmp_path, table).repacked


def test_a_half_downloaded_file_is_named(dataset: CifarDataset, tmp_path: Path) -> None:
    cifar_miniature.write(tmp_path, dataset.name)
    victim = first_file(dataset, tmp_path)
    victim.write_bytes(victim.read_bytes()[:1000])
    for ask in (dataset.check, dataset.load):
        with raises("ECRL-508", "md5", f"{dataset.folder_name}: {victim.name} ("):
            ask(tmp_path)


def test_absent_files_are_all_named(dataset: CifarDataset, tmp_path: Path) -> None:
    cifar_miniature.write(tmp_path, dataset.name)
    folder = tmp_path / dataset.folder_name
    first, *_, last = dataset.published_md5
    for name in (first, last):
        (folder / name).unlink()
    for ask in (dataset.check, dataset.load):
        with raises("ECRL-508", f"{dataset.folder_name}: {first}, {last}"):
            ask(tmp_path)


class LeavesAMark:
    """Unpickling this writes the file that it names."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.write_text, (self.mark, "unpickled"))


def test_no_file_is_unpickled_before_its_md5_was_seen(dataset: CifarDataset, tmp_path: Path) -> None:
    cifar_miniature.write(tmp_path, dataset.name)
    mark = tmp_path / "mark"
    for name in dataset.published_md5:
        (tmp_path / dataset.folder_name / name).write_bytes(pickle.dumps(LeavesAMark(mark)))
    for ask in (dataset.check, dataset.load):
        with raises("ECRL-508"):
            ask(tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("md5", [None, "", "skip", 5, ["a"]])
def test_no_table_can_switch_the_check_off(dataset: CifarDataset, tmp_path: Path, md5: object) -> None:
    # torchvision takes None as "do not check"
    cifar_miniature.write(tmp_path, dataset.name)
    name = next(iter(dataset.published_md5))
    (tmp_path / "checksums.json").write_text(json.dumps({name: md5}), encoding="utf-8")
    for ask in (dataset.check, dataset.load):
        with raises("ECRL-901", "checksums.json", f"'{name}'", repr(md5)):
            ask(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "null", "\udcff"])
def test_a_table_that_is_none_is_named(dataset: CifarDataset, tmp_path: Path, text: str) -> None:
    cifar_miniature.write(tmp_path, dataset.name)
    (tmp_path / "checksums.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with raises("ECRL-901", "checksums.json"):
        dataset.check(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"not a pickle",
        b"",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]}),
        cifar_miniature.python2_pickle({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 100]}),
        cifar_miniature.python2_pickle({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}),
        pickle.dumps({"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]}),
    ],
    ids=["no pickle", "empty", "list", "wrong size", "label out of range", "label missing", "no bytes"],
)
def test_a_declared_file_that_holds_something_else_is_no_traceback(
    dataset: CifarDataset, tmp_path: Path, content: bytes
) -> None:
    cifar_miniature.write(tmp_path, dataset.name, declare=False)
    folder = tmp_path / dataset.folder_name
    for name in list(dataset.published_md5)[:-1]:
        (folder / name).write_bytes(content)
    with raises("ECRL-508", dataset.name):
        dataset.load(tmp_path, cifar_miniature.table(folder))


def test_one_table_may_describe_both_sets_and_one_set_alone(tmp_path: Path) -> None:
    cifar_miniature.write(tmp_path, "cifar100")
    cifar_miniature.write(tmp_path, "cifar10")  # now the table names CIFAR-10's files only
    assert plugins.load("dataset", "cifar10").load(tmp_path).repacked
    with raises("ECRL-508", "md5", "cifar-100-python: train, test, meta"):
        plugins.load("dataset", "cifar100").check(tmp_path)
