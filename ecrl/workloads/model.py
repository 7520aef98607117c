"""What a model is. How one is built is its task's to say (e.g. images/model.py)."""

from abc import ABC
from typing import ClassVar


class Model(ABC):
    """One model of the folder `models/`; `name` is its name in a matrix, `task` that of the task it is for."""

    name: ClassVar[str]
    description: ClassVar[str]

    def __init__(self, *, task: str) -> None:
        self.task = task
