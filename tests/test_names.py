"""Functions are named for what they do, not for the state that they leave: no participle and no preposition begins a
name. (Verbs act, `is_/has_/can_` answer yes or no, nouns and `get_/load_/build_/compute_` return a thing.)"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ecrl"
FILES = sorted(PACKAGE.rglob("*.py"))

# Words that end like a participle and are none.
NO_PARTICIPLES = "bleed breed bring exceed embed feed need ping proceed ring seed shed speed string"
# Irregular participles. Those that are imperatives, too (cut, put, read, run, set, split), are no fault.
IRREGULAR = """
been begun bought bound broken brought built caught chosen dealt done drawn driven fallen fed felt flown forgotten
fought found frozen given gone gotten grown had heard held hidden hung kept known laid led left lent lost made meant met
paid said sat seen sent shaken shown shrunk sold sought spent spoken spun stolen stood stricken struck sunk swept taken
taught thought thrown told torn understood was were woken won worn woven written
"""
PREPOSITIONS = """
about above across after again against ahead alike alone along among apart around as aside at away back before behind
below beneath beside besides between beyond by down during elsewhere everywhere except for how in inside into like near
of off on onto out outside over past per since than then there through together toward under until unto up upon via what
when where whether while who whose why with within without
"""

# Name -> why it stands.
ALLOWED = {
    "declared": "what a plugin says of itself, as in `plugins.declared`",
    # Hooks are named for the moment at which they are called, as everywhere in PyTorch's world.
    "on_phase": "hook: a phase begins",
    "on_loss": "hook: the loss of a step is there",
    "on_gradients": "hook: the gradients of a step are there",
    "on_update": "hook: the update of a step is there",
    "before_forward": "hook: called before each forward",
    "before_update": "hook: called before each optimizer step",
    "after_step": "hook: called after each optimizer step",
    "learning_rate": "the field's noun",
}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file but properties and dunders, nested ones included."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("__"):
            decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
            if not decorators & {"property", "cached_property", "setter"}:
                yield node


def fault(name: str) -> str | None:
    """What is wrong with a function's name."""
    first = name.strip("_").partition("_")[0]
    if name in ALLOWED or first in NO_PARTICIPLES.split():
        return None
    if first in IRREGULAR.split() or first.endswith(("ed", "ing")):
        return "begins with a participle"
    return "begins with a preposition or an adverb" if first in PREPOSITIONS.split() else None


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(PACKAGE)) for p in FILES])
def test_a_functions_name_begins_with_a_verb_or_a_noun(path: Path) -> None:
    where = path.relative_to(PACKAGE.parent)
    faults = [f"{where}:{f.lineno}: {f.name} {why}" for f in functions(path) if (why := fault(f.name))]
    assert not faults, "\n".join(faults)


def test_no_exception_outlives_its_function() -> None:
    names = {function.name for path in FILES for function in functions(path)}
    assert set(ALLOWED) <= names


def test_the_lint_sees_what_it_should() -> None:
    assert all(map(fault, ("judged", "_found", "kept", "waiting_for", "in_short", "_where", "untested", "told")))
    assert not any(map(fault, ("read", "set_aside", "seed_generators", "split", "needs", "is_kept", "load_frozen")))
