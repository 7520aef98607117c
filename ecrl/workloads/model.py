"""The base class of models. The task's subclass defines how a model is built (e.g. images/model.py)."""

from abc import ABC


class Model(ABC):
    """One model of the folder `models/`. name: its name in a matrix. task: the name of its task."""

    name: str
    description: str

    def __init__(self, *, task: str) -> None:
        self.task = task
