"""The meaning of a field: the text that stands under it in the source of its class."""

import ast
import inspect
from functools import cache


@cache
def get_field_docs(kind: type) -> dict[str, str]:
    """Field -> its meaning, those of base classes included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("ecrl."):
            found |= _read_field_docs(base)
    return found


def _read_field_docs(kind: type) -> dict[str, str]:
    [node] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(node, ast.ClassDef)
    found = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(meaning))):
                found[name] = " ".join(meaning.split())
    return found
