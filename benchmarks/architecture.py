"""The architecture in figures: packages, layers, circles, file and function sizes, and the calls from the command line.

    python benchmarks/architecture.py                     the figures of cosmos_exp with their limits
    python benchmarks/architecture.py --check             exit code 1 if a figure is over its limit (`make lint`)
    python benchmarks/architecture.py --against DIR       an older checkout's figures beside them

Read from source with `ast` and `grimp`; nothing of the package is imported.

Commit 62cbd17 against the numbers of issue 13: 21 loose modules, 3 circles, 9 calls and 197 `# fmt: skip` are the same.
13 layers here are 14 there, which counts `__main__` as one. 139 `Any` there are `name: Any` alone; here 155 annotations
are `Any` as a whole (returns and quoted ones included), and 259 mention it (`dict[str, Any]` too).
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grimp
from call_graph import CallGraph

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Target:
    """A function whose distance from `main` is counted, along the command that exists to run it.

    Without the command a shorter side path would be counted: `rerun` is nearer to the trainer than `run`, and the
    sampson command's `--plot` is nearer to the formula than its measuring; `avoid` names modules to leave out.
    """

    function: str
    command: str
    avoid: tuple[str, ...] = ()


TARGETS = (
    Target("Trainer.train", "run"),
    Target("sampson_distance", "sampson", ("plots", "cross_view")),
    Target("Reason2.ask", "judge"),
)


@dataclass
class Figure:
    """A figure, its limit (None: only reported) and what a reader needs to find the cause."""

    name: str
    value: int | None
    limit: int | None = None
    details: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return self.limit is not None and (self.value is None or self.value > self.limit)


# --- imports ----------------------------------------------------------------------------------------------------
def import_edges(root: Path, package: str) -> dict[str, set[str]]:
    """Each module with the modules of the package that it imports, lazy imports included, TYPE_CHECKING ones not."""
    sys.path.insert(0, str(root))
    try:
        graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    finally:
        sys.path.remove(str(root))
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def components(edges: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected components, dependencies first (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(edges[node]):
            if other not in order:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == order[node]:
            cut = stack.index(node)
            found.append(set(stack[cut:]))
            del stack[cut:]

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return found


def loose_modules(root: Path, package: str) -> list[str]:
    """Modules at the top of the package. `__init__` and `__main__` hold no code of their own and are not counted."""
    return sorted(p.stem for p in (root / package).glob("*.py") if p.stem not in ("__init__", "__main__"))


def layers(edges: dict[str, set[str]], loose: Sequence[str]) -> list[str]:
    """The longest chain of packages, lowest first.

    A node is a top-level package. The loose modules that reach no package are one node, the ground layer; a loose
    module that imports a package is a node of its own. Nodes in a circle count as one layer each.
    """

    def top(module: str) -> str:
        return module.split(".")[1] if "." in module else "__init__"

    def reached(start: str) -> set[str]:
        seen, left = {start}, [start]
        while left:
            for other in edges[left.pop()] - seen:
                seen.add(other)
                left.append(other)
        return {top(m) for m in seen}

    package = next(iter(edges)).split(".")[0]
    ground = {m for m in loose if reached(f"{package}.{m}") <= {*loose, "__init__", m}}
    skip = {"__init__", "__main__"}
    nodes: dict[str, set[str]] = {}
    for module, imported in edges.items():
        node = "ground layer" if top(module) in ground else top(module)
        if node in skip:
            continue
        below = {"ground layer" if top(m) in ground else top(m) for m in imported}
        nodes.setdefault(node, set()).update(below - skip - {node})
    chains: dict[str, list[str]] = {}
    for circle in components(nodes):
        below = [chains[r] for node in circle for r in nodes[node] - circle]
        chain = [*max(below, key=len, default=[]), *sorted(circle)]
        chains |= dict.fromkeys(circle, chain)
    return max(chains.values(), key=len, default=[])


# --- source -----------------------------------------------------------------------------------------------------
def python_files(folder: Path) -> Iterator[Path]:
    """The Python files of a repository, without hidden folders, outputs and builds."""
    for path in sorted(folder.iterdir()):
        if (
            path.is_dir()
            and not path.name.startswith((".", "__"))
            and path.name not in ("outputs", "build", "dist", "site")
        ):
            yield from python_files(path)
        elif path.suffix == ".py":
            yield path


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    """Every annotation of a module: parameters, returns and variables; quoted ones are parsed."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found = node.returns
        elif isinstance(node, (ast.arg, ast.AnnAssign)):
            found = node.annotation
        else:
            continue
        if isinstance(found, ast.Constant) and isinstance(found.value, str):
            found = ast.parse(found.value, mode="eval").body
        if found is not None:
            yield found


def any_counts(tree: ast.AST) -> tuple[int, int]:
    """How often `Any` occurs in annotations, and in how many of them it is the whole annotation.

    `dict[str, Any]` counts in the first number only. An import, a cast and a type alias count in neither.
    """
    parts = list(annotations(tree))
    every = [node for part in parts for node in ast.walk(part)]
    inside, whole = (sum(isinstance(n, ast.Name) and n.id == "Any" for n in nodes) for nodes in (every, parts))
    return inside, whole


def skip_count(text: str) -> int:
    """The comments that switch the formatter off for a statement. The same words in a string do not count."""
    if "fmt: skip" not in text:
        return 0
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(t.type == tokenize.COMMENT and "fmt: skip" in t.string for t in tokens)


def function_lengths(tree: ast.AST, module: str) -> list[tuple[int, str]]:
    """Lines of each function, signature and docstring included, with its name."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = (n for n in ast.walk(tree) if isinstance(n, kinds))
    return [((n.end_lineno or n.lineno) - n.lineno + 1, f"{module}:{n.name}") for n in found]


# --- calls ------------------------------------------------------------------------------------------------------
def command_line(graph: CallGraph) -> str:
    """The function `main` of the command line, with every registered command as one that it calls.

    A command is registered as a function that the entry module mentions, or is the function `run` of a module of `cli`.

    Raises:
        LookupError: the package has no such function.
    """
    package = graph.package
    entry = next((m for m in (f"{package}.cli.entry", f"{package}.cli") if f"{m}.main" in graph.functions), None)
    if entry is None:
        raise LookupError(f"{package}: no function main in cli/entry.py or cli.py")
    commands = {f"{m}.run" for m in graph.modules if m.startswith(f"{package}.cli.")} & graph.functions.keys()
    graph.edges[f"{entry}.main"] |= graph.references(entry) | commands
    return f"{entry}.main"


def call_path(graph: CallGraph, start: str, target: Target) -> list[str]:
    """The shortest path from `start` through the target's command to its function; empty where none is found."""
    blocked = {f for f in graph.functions if set(f.split(".")) & set(target.avoid)}
    kept = graph.edges
    graph.edges = {f: to - blocked for f, to in kept.items() if f not in blocked}

    # The command's own function: `_run` beside `main` (the first layout), or any function of the module cli/run.py.
    def is_command(function: str) -> bool:
        parts = function.split(".")
        return parts[-1] == f"_{target.command}" or f"cli.{target.command}." in f"{function}."

    first = [f for f in graph.edges.get(start, ()) if is_command(f)]
    paths = [graph.shortest(f, goal) for f in sorted(first) for goal in graph.find(target.function)]
    graph.edges = kept
    best = min(filter(None, paths), key=len, default=[])
    return [start, *best] if best else []


# --- all figures ------------------------------------------------------------------------------------------------
def measure(root: Path, package: str = "cosmos_exp", targets: Sequence[Target] = TARGETS) -> list[Figure]:
    """All figures of the package below `root`."""
    edges = import_edges(root, package)
    loose = loose_modules(root, package)
    chain = layers(edges, loose)
    circles = [c for c in components(edges) if len(c) > 1]
    files = list(python_files(root / package))
    texts = {path: path.read_text(encoding="utf-8") for path in files}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = sorted(((len(t.splitlines()), str(p.relative_to(root))) for p, t in texts.items()), reverse=True)
    anys = sorted(((*any_counts(t), str(p.relative_to(root))) for p, t in trees.items()), reverse=True)
    skips = [(skip_count(p.read_text(encoding="utf-8")), str(p.relative_to(root))) for p in python_files(root)]
    lengths = sorted((x for p, t in trees.items() for x in function_lengths(t, p.stem)), reverse=True)
    figures = [
        Figure("loose modules", len(loose), 8, [" ".join(loose)]),
        Figure("layers of imports", len(chain), 8, [" < ".join(chain)]),
        Figure("import circles", len(circles), 0, [" <-> ".join(sorted(c)) for c in circles]),
        Figure("longest file, lines", lines[0][0], 350, [f"{p}: {n}" for n, p in lines if n > 350] or [lines[0][1]]),
        Figure("Any in annotations", sum(a[0] for a in anys), 30, [f"{p}: {n}" for n, _, p in anys[:5] if n]),
        Figure("Any as a whole annotation", sum(a[1] for a in anys)),
        Figure(
            "fmt: skip comments", sum(n for n, _ in skips), 10, [f"{p}: {n}" for n, p in sorted(skips)[:-6:-1] if n]
        ),
    ]
    if len(lengths) > 1:
        p90 = round(statistics.quantiles((n for n, _ in lengths), n=10, method="inclusive")[-1])
        over = sum(n > 40 for n, _ in lengths)
        figures.append(Figure("function lines, p90", p90, None, [f"{over} of {len(lengths)} over 40 lines"]))
        figures.append(Figure("function lines, longest", lengths[0][0], None, [f"{p}: {n}" for n, p in lengths[:5]]))
    if targets:
        graph = CallGraph(root, package)
        start = command_line(graph)
        for target in targets:
            path = call_path(graph, start, target)
            why = "no path found: the name has changed (TARGETS), or a type annotation on the way is missing"
            figures.append(Figure(f"calls to {target.function}", len(path) - 1 if path else None, 5, path or [why]))
    return figures


def show(figures: list[Figure], before: list[Figure] | None = None) -> str:
    """A line per figure with its limit, and below it where to look; call paths one function per line."""
    lines = [f"{'':5}{'':28} {'now':>5} {'limit':>6}" + (f" {'before':>7}" if before else "")]
    old = {f.name: f.value for f in before or []}

    def number(value: int | None) -> str:
        return "-" if value is None else str(value)

    for f in figures:
        verdict = "OVER" if f.failed else "" if f.limit is None else "ok"
        was = f" {number(old.get(f.name)):>7}" if before else ""
        lines.append(f"{verdict:5}{f.name:28} {number(f.value):>5} {number(f.limit):>6}{was}")
        lines += [f"         {detail}" for detail in f.details if detail]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures. Exit code 1 with --check if one is over its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit code 1 if a figure is over its limit")
    parser.add_argument("--against", type=Path, metavar="DIR", help="an older checkout, shown as `before`")
    parser.add_argument(
        "--root", type=Path, default=ROOT, metavar="DIR", help="repository to measure (default: this one)"
    )
    args = parser.parse_args(argv)
    figures = measure(args.root)
    print(show(figures, measure(args.against) if args.against else None))
    failed = [f.name for f in figures if f.failed]
    if args.check and failed:
        print(f"over the limit: {', '.join(failed)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
