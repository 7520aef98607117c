"""Which data sets and models share a task, according to the declarations in their files. Imports none of them."""

from collections.abc import Iterable

from ecrl import plugins


def is_fitting_pair(dataset: str, model: str) -> bool:
    """Whether the model can be trained on the data set."""
    return _get_task("dataset", dataset) == _get_task("model", model)


def find_unfit_pairs(datasets: Iterable[str], models: Iterable[str]) -> list[tuple[str, str]]:
    """The (dataset, model) pairs whose tasks differ. Unknown names are skipped."""
    known = [name for name in models if name in plugins.names("model")]
    return [
        (dataset, model)
        for dataset in datasets
        if dataset in plugins.names("dataset")
        for model in known
        if not is_fitting_pair(dataset, model)
    ]


def explain_unfit_pair(dataset: str, model: str) -> str:
    """The problem with an unfit pair, and the `[[exclude]]` table that removes it from a matrix."""
    return (
        f"found model {model!r} of task {_get_task('model', model)!r} with dataset {dataset!r} of task"
        f" {_get_task('dataset', dataset)!r}, expected one task. Leave the pair out by a table"
        f' [[exclude]] with model = "{model}" and dataset = "{dataset}"'
    )


def get_context_length(model: str) -> int | None:
    """The longest sequence that a model takes; None for models that take none, and for unknown names."""
    return plugins.declared("model", model).get("context_length") if model in plugins.names("model") else None


def _get_task(family: str, name: str) -> str:
    return str(plugins.declared(family, name)["task"])
