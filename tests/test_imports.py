"""Imports run one way, from package to package and from file to file, lazy ones too."""

import ast
import graphlib
import pathlib
import tomllib

import pytest

import sknonlin

ROOT = pathlib.Path(sknonlin.__file__).parent
BELOW = ["_running", "_matrices", "_factorization", "_network", "_memorization"]
#: What each package may import besides itself; the public files may import all of them.
MAY_IMPORT = {
    "_running": [],
    "_matrices": ["_running"],
    "_factorization": ["_running", "_matrices"],
    "_bounds": ["_running"],
    "_network": ["_running"],
    "_memorization": [*BELOW, "curves"],
    "_review": ["_running"],
    "inspection": ["curves"],
}


def imported(path):
    """Modules of the package that a file imports anywhere, as paths without suffix."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "sknonlin":
                yield file_of("/".join(parts[1:])) or file_of("/".join(parts[1:-1]))


def file_of(module):
    """Path without suffix of the file that a module is, or None."""
    for path in (module, f"{module}/__init__".lstrip("/")):
        if (ROOT / f"{path}.py").is_file():
            return path
    return None


GRAPH = {
    str(path.relative_to(ROOT).with_suffix("")): sorted(set(imported(path)))
    for path in ROOT.rglob("*.py")
}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_those_below_alone(package):
    own = {module: found for module, found in GRAPH.items() if module.startswith(package)}
    assert own
    for module, found in own.items():
        others = {name.split("/")[0] for name in found} - {package}
        assert others <= set(MAY_IMPORT[package]), f"{module} imports {others}"


def test_every_package_is_installed():
    settings = tomllib.loads((ROOT.parent / "pyproject.toml").read_text())
    folders = {path.parent.relative_to(ROOT.parent) for path in ROOT.rglob("*.py")}
    expected = sorted(".".join(folder.parts) for folder in folders)
    assert sorted(settings["tool"]["setuptools"]["packages"]) == expected


def test_no_file_imports_one_that_imports_it():
    order = list(graphlib.TopologicalSorter(GRAPH).static_order())
    assert order.index("_running/memory") < order.index("detector")
