"""A static call graph of a Python package, from its source alone: nothing of the package is imported or run.

A call is an edge from the calling function to the called one. Names are resolved through imports (also inside functions),
methods through the classes that a variable may hold: constructed there, annotated, or returned by an annotated function.
A function passed as an argument is called by the package function that receives it, or by the caller where a library
receives it (`pool.map(f, …)`, `partial(f, …)`). A string "package.module:function" counts as a reference to that function.

Best effort: containers and their elements are not distinguished, and a call through an unannotated parameter is not seen.
Print the path (`CallGraph.shortest`) and check it by eye.
"""

from __future__ import annotations

import ast
from collections import defaultdict, deque
from pathlib import Path

from package_names import PASS_THROUGH, Names, Scope, called_name


class CallGraph(Names):
    """The functions of a package and their calls: `edges[caller]` holds the called ones."""

    def __init__(self, root: Path, package: str):
        super().__init__(root, package)
        self.edges: dict[str, set[str]] = defaultdict(set)
        for key, function in self.functions.items():
            for statement in function.node.body:
                self._calls(statement, function.scope, {key}, {key})

    # --- calls --------------------------------------------------------------------------------------------------
    def _calls(self, node: ast.AST, scope: Scope, source: set[str], holder: set[str]) -> None:
        """Add the edges of a statement or expression: calls from `source`, references to functions from `holder`."""
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return
        if isinstance(node, ast.Call):
            called = self._called(node, scope)
            self._add(source, called)
            if isinstance(node.func, ast.Name):
                pass
            else:
                self._calls(
                    node.func.value if isinstance(node.func, ast.Attribute) else node.func, scope, source, source
                )
            # Library code calls what it is given on behalf of the caller; partial(f) only hands f on.
            receiver = called or (holder if called_name(node) in PASS_THROUGH else source)
            for part in [*node.args, *(k.value for k in node.keywords)]:
                self._calls(part, scope, source, receiver)
            return
        if isinstance(node, ast.Lambda):
            self._calls(node.body, scope, holder, holder)
            return
        if isinstance(node, (ast.Name, ast.Attribute, ast.Constant)):
            if not isinstance(getattr(node, "ctx", None), ast.Store):
                self._add(holder, self.value(node, scope).callables & self.functions.keys())
            if isinstance(node, ast.Attribute):
                self._calls(node.value, scope, source, source)
            return
        for child in ast.iter_child_nodes(node):
            self._calls(child, scope, source, holder)

    def _called(self, node: ast.Call, scope: Scope) -> set[str]:
        """The functions that a call runs; of a class its constructor."""
        held, out = self.value(node.func, scope), set()
        for key in held.callables:
            names = ("__init__", "__post_init__") if key in self.classes else ()
            out |= {self.method(key, n) for n in names} if names else {key}
        out |= {self.method(key, "__call__") for key in held.instances}
        return out - {None}

    def _add(self, sources: set[str], targets: set[str]) -> None:
        for source in sources:
            self.edges[source] |= targets - {source}

    # --- paths --------------------------------------------------------------------------------------------------
    def references(self, module: str) -> set[str]:
        """The functions of a module that its own code mentions without calling them there (registered commands)."""
        called = {id(n.func) for n in ast.walk(self.trees[module]) if isinstance(n, ast.Call)}
        mentioned = (n for n in ast.walk(self.trees[module]) if isinstance(n, ast.Name) and id(n) not in called)
        return {f"{module}.{n.id}" for n in mentioned} & self.functions.keys()

    def find(self, name: str) -> list[str]:
        """The functions whose dotted name ends with `name`."""
        return [key for key in self.functions if key.endswith(f".{name}")]

    def shortest(self, start: str, goal: str) -> list[str]:
        """The functions of a shortest path, both ends included; empty where there is none."""
        before, queue = {start: ""}, deque([start])
        while queue and goal not in before:
            here = queue.popleft()
            for there in sorted(self.edges.get(here, ())):
                if there not in before:
                    before[there] = here
                    queue.append(there)
        path = [goal] if goal in before else []
        while path and before[path[-1]]:
            path.append(before[path[-1]])
        return path[::-1]
