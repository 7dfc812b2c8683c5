"""Prints figures of the source tree: sizes of modules and functions, imports between rooms, and import circles.

``python -m tests.house [FOLDER]`` measures the checkout, or the one in FOLDER. A room is a folder of a package,
or a module beside those folders. An arrow is a pair of rooms of one package of which the first imports the second.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

from tests.paths import ROOT

_NO_PACKAGES = ("tests", "bench", "docs", "models", "requirements")


def packages(root: Path) -> list[str]:
    """Return the names of the import packages in ``root``."""
    return sorted(one.parent.name for one in root.glob("*/__init__.py") if one.parent.name not in _NO_PACKAGES)


def sizes(root: Path, names: list[str]) -> str:
    """Return the figures of modules and functions as text."""
    files = [path for name in names for path in (root / name).rglob("*.py")]
    modules = [path.read_text(encoding="utf-8").count("\n") for path in files]
    modules = [lines for lines in modules if lines > 1]
    functions = [lines for path in files for lines in _functions(path)]
    return "\n".join(
        (
            f"modules    {len(modules)}, lines: {sum(modules)}, median {statistics.median(modules):g}, "
            f"largest {max(modules)}",
            f"functions  {len(functions)}, lines: median {statistics.median(functions):g}, "
            f"p95 {statistics.quantiles(functions, n=20)[-1]:.0f}, largest {max(functions)}",
        )
    )


def _functions(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def arrows(graph: grimp.ImportGraph, package: str) -> set[tuple[str, str]]:
    """Return the pairs of rooms of ``package`` of which the first imports the second."""
    depth = package.count(".") + 1
    found = set()
    for module in graph.find_descendants(package):
        for imported in graph.find_modules_directly_imported_by(module):
            if imported.startswith(f"{package}.") and module.startswith(f"{package}."):
                pair = module.split(".")[depth], imported.split(".")[depth]
                if pair[0] != pair[1]:
                    found.add(pair)
    return found


def circles(graph: grimp.ImportGraph, names: list[str]) -> list[str]:
    """Return the packages, at any depth, whose parts import each other in a circle, with the imports that close it."""
    parents = sorted(
        {one for name in names for one in (name, *graph.find_descendants(name)) if graph.find_children(one)}
    )
    return [
        f"{parent}: " + ", ".join(f"{left} -> {right}" for left, right in sorted(broken))
        for parent in parents
        if (broken := _closing(arrows(graph, parent)))
    ]


def _closing(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    rooms = {room for pair in pairs for room in pair}
    while True:
        inside = {pair for pair in pairs if set(pair) <= rooms}
        on_circles = {left for left, _ in inside} & {right for _, right in inside}
        if on_circles == rooms:
            return inside
        rooms = on_circles


def main() -> None:
    """Print the figures of the checkout that the command line names."""
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    sys.path.insert(0, str(root))
    names = packages(root)
    graph = grimp.build_graph(*names, cache_dir=None)
    print(sizes(root, names))
    for name in names:
        rooms = {one.split(".")[1] for one in graph.find_descendants(name)}
        print(f"{name:<10} {len(rooms)} rooms, {len(arrows(graph, name))} arrows between them")
    found = circles(graph, names)
    print(f"circles    {len(found)}")
    for line in found:
        print(f"  {line}")


if __name__ == "__main__":
    main()
