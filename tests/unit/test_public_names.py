"""Every public name has a docstring, and every ``__all__`` is true."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import worker

ROOT = Path(worker.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
# What the rest of the worker, and users, import from.
PACKAGES = ("client", "message", "signatures", "store")

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT.parent))


def _public(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, Definition]]:
    for child in node.body:
        if isinstance(child, Definition) and not child.name.startswith("_"):
            if not _is_overload(child):
                yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from _public(child, f"{prefix}{child.name}.")


def _is_overload(node: Definition) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list)


def _declared(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return list(ast.literal_eval(node.value))
    return None


def _bound(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, Definition):
            yield node.name
        elif isinstance(node, ast.ImportFrom | ast.Import):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_public_name_has_a_docstring(path: Path) -> None:
    """Modules, classes, functions, methods and properties."""
    tree = ast.parse(path.read_text())
    silent = [name for name, node in _public(tree) if not ast.get_docstring(node)]

    assert silent == []
    assert ast.get_docstring(tree), "the module has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_docstring_begins_with_a_whole_sentence(path: Path) -> None:
    """One line that ends in a full stop, or a colon before a drawing."""
    tree = ast.parse(path.read_text())
    first = {name: (ast.get_docstring(node) or "").split("\n")[0] for name, node in _public(tree)}
    cut = {name: line for name, line in first.items() if not line.endswith((".", ":"))}

    assert cut == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_declares_exactly_what_it_hands_on(package: str) -> None:
    """``__all__`` is the promise of what stays."""
    tree = ast.parse((ROOT / package / "__init__.py").read_text())
    handed_on = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("worker.")
        for alias in node.names
    }
    declared = _declared(tree) or []

    assert len(declared) == len(set(declared))
    assert handed_on == set(declared)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_every_name_in_all_exists(path: Path) -> None:
    """A star import of it would not fail."""
    tree = ast.parse(path.read_text())
    absent = set(_declared(tree) or []) - set(_bound(tree))

    assert absent == set()
