"""What the names and expressions of a Python package may refer to, from its source alone. Used by call_graph.py.

An expression's value is the classes it may be an instance of and the functions or classes it may be itself. Containers
and their elements are not distinguished: a list of trainers is taken for a trainer.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
# Library calls whose result still stands for the function or class given to them.
PASS_THROUGH = {"partial", "resolve_name", "getattr", "cache", "lru_cache", "get", "items", "values", "pop", "next"}


@dataclass
class Value:
    """What an expression may hold: instances of these classes, and these functions or classes themselves."""

    instances: set[str] = field(default_factory=set)
    callables: set[str] = field(default_factory=set)

    def add(self, other: Value) -> None:
        self.instances |= other.instances
        self.callables |= other.callables


@dataclass
class Scope:
    """Names visible in a module or function: imported ones and definitions by dotted name, variables by value."""

    names: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Value] = field(default_factory=dict)
    parent: Scope | None = None

    def find(self, name: str) -> str | Value | None:
        """The innermost meaning of `name`; None if it is not known."""
        if name in self.names:
            return self.names[name]
        if name in self.variables:
            return self.variables[name]
        return None if self.parent is None else self.parent.find(name)


@dataclass
class Class:
    """A class of the package with its base classes' expressions and the values of its attributes."""

    node: ast.ClassDef
    scope: Scope
    attributes: dict[str, Value] = field(default_factory=lambda: defaultdict(Value))


@dataclass
class Function:
    """A function or method; `owner` is its class."""

    node: FunctionNode
    scope: Scope
    owner: str | None


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below `node` in source order, without the bodies of functions and classes defined in it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from own_nodes(child)


def called_name(node: ast.Call) -> str:
    """The last part of what a call names: `pool.map(f)` gives map."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


class Names:
    """The definitions of a package by dotted name, `package.module.Class.method`, and what expressions may hold."""

    def __init__(self, root: Path, package: str):
        self.package = package
        self.modules: dict[str, Scope] = {}
        self.constants: dict[str, tuple[ast.expr, Scope]] = {}
        self.classes: dict[str, Class] = {}
        self.functions: dict[str, Function] = {}
        self._resolving: set[str] = set()
        self._bases: dict[str, list[str]] = {}
        self._implementers: dict[str, list[str]] = {}
        self.trees: dict[str, ast.Module] = {}
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            self.trees[name] = ast.parse(path.read_text(encoding="utf-8"))
            self.modules[name] = Scope()
        for name, tree in self.trees.items():
            self._define(tree, name, self.modules[name], None)
        for _ in range(2):  # an attribute set in one class may be read in another
            for key, function in self.functions.items():
                self._bind(key, function)

    # --- definitions and names ----------------------------------------------------------------------------------
    def _define(self, node: ast.AST, prefix: str, scope: Scope, owner: str | None) -> None:
        """Enter the definitions and imports of a module, class or function body into `scope` and the tables."""
        for child in own_nodes(node):
            key = f"{prefix}.{child.name}" if hasattr(child, "name") else ""
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.functions[key] = Function(child, Scope(parent=scope), owner)
                if owner is None:
                    scope.names[child.name] = key
                self._define(child, key, self.functions[key].scope, None)
            elif isinstance(child, ast.ClassDef):
                self.classes[key] = Class(child, scope)
                scope.names[child.name] = key
                self._define(child, key, scope, key)
            elif isinstance(child, (ast.Import, ast.ImportFrom)):
                self._import(child, scope)
            elif isinstance(node, ast.Module) and isinstance(child, (ast.Assign, ast.AnnAssign)) and child.value:
                for target in child.targets if isinstance(child, ast.Assign) else [child.target]:
                    if isinstance(target, ast.Name) and prefix in self.modules:
                        self.constants[f"{prefix}.{target.id}"] = child.value, scope
                        scope.names.setdefault(target.id, f"{prefix}.{target.id}")
            elif isinstance(child, ast.AnnAssign) and owner and isinstance(child.target, ast.Name):
                self.classes[owner].attributes[child.target.id].add(self.annotated(child.annotation, scope))

    def _import(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                scope.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            else:
                name = alias.asname or alias.name.split(".")[0]
                scope.names[name] = alias.name if alias.asname else name

    def resolve(self, dotted: str) -> str | None:
        """The defining name behind a dotted one (through re-exports and base classes); None outside the package."""
        if dotted in self.functions or dotted in self.classes or dotted in self.constants or dotted in self.modules:
            return dotted
        head, _, last = dotted.rpartition(".")
        if not head or dotted in self._resolving or not dotted.startswith(self.package + "."):
            return None
        self._resolving.add(dotted)
        try:
            owner = self.resolve(head)
            if owner in self.modules:
                target = self.modules[owner].names.get(last)
                return self.resolve(target) if target else None
            return self.method(owner, last) if owner in self.classes else None
        finally:
            self._resolving.discard(dotted)

    def bases(self, key: str) -> list[str]:
        """The base classes that are part of the package."""
        if key in self._bases:
            return self._bases[key]
        owner = self.classes[key]
        found = [c for base in owner.node.bases for c in self.value(base, owner.scope).callables if c in self.classes]
        if not self._resolving:  # else a name may be open that is found later
            self._bases[key] = found
        return found

    def method(self, key: str, name: str) -> str | None:
        """The function that `key().name` runs, inherited ones included."""
        if f"{key}.{name}" in self.functions:
            return f"{key}.{name}"
        return next((found for base in self.bases(key) if (found := self.method(base, name))), None)

    def implementations(self, key: str, name: str) -> set[str]:
        """The methods that a call of `name` on a variable of class or protocol `key` may reach."""
        own = {self.method(key, name)} - {None}
        theirs = {f"{other}.{name}" for other in self._implementing(key)} & self.functions.keys()
        return own | theirs  # type: ignore[return-value]

    def _implementing(self, key: str) -> list[str]:
        """The classes that inherit from `key`, or have every method of the protocol `key`."""
        if key in self._implementers:
            return self._implementers[key]
        protocol = any("Protocol" in ast.unparse(base) for base in self.classes[key].node.bases)
        promised = {f.split(".")[-1] for f, function in self.functions.items() if function.owner == key}
        found = []
        for other in self.classes:
            structural = protocol and promised and all(f"{other}.{m}" in self.functions for m in promised)
            if other != key and (structural or key in self.bases(other)):
                found.append(other)
        if not self._resolving:
            self._implementers[key] = found
        return found

    # --- values -------------------------------------------------------------------------------------------------
    def annotated(self, annotation: ast.expr | None, scope: Scope) -> Value:
        """Instances of every class of the package that an annotation mentions, those of a Callable left out."""
        out = Value()
        if annotation is None:
            return out
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Callable"):
            return out
        if isinstance(annotation, (ast.Name, ast.Attribute)):
            out.instances |= self.value(annotation, scope).callables & self.classes.keys()
            return out
        for child in ast.iter_child_nodes(annotation):
            if isinstance(child, ast.expr):
                out.add(self.annotated(child, scope))
        return out

    def value(self, node: ast.AST, scope: Scope) -> Value:
        """What an expression may hold."""
        if isinstance(node, ast.Constant):
            text = node.value if isinstance(node.value, str) else ""
            return (
                self._named(text.replace(":", ".")) if re.fullmatch(rf"{self.package}[\w.]*:?[\w.]+", text) else Value()
            )
        if isinstance(node, ast.Name):
            found = scope.find(node.id)
            return self._named(found) if isinstance(found, str) else found or Value()
        if isinstance(node, ast.Attribute):
            return self._attribute(node, scope)
        if isinstance(node, ast.Call):
            return self._result(node, scope)
        out = Value()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.expr, ast.keyword)):
                out.add(self.value(child, scope))
        return out

    def _named(self, dotted: str) -> Value:
        key = self.resolve(dotted)
        if key in self.constants:
            if key in self._resolving:
                return Value()
            self._resolving.add(key)
            try:
                return self.value(*self.constants[key])
            finally:
                self._resolving.discard(key)
        return Value(callables={key} if key in self.functions or key in self.classes else set())

    def _attribute(self, node: ast.Attribute, scope: Scope) -> Value:
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value  # type: ignore[assignment]
        found = scope.find(root.id) if isinstance(root, ast.Name) else None
        if isinstance(found, str) and (named := self._named(found + ast.unparse(node)[len(root.id) :])).callables:  # type: ignore[attr-defined]
            return named
        out, held = Value(), self.value(node.value, scope)
        for key in held.instances:
            out.callables |= self.implementations(key, node.attr)
            for owner in (key, *self.bases(key)):
                out.add(self.classes[owner].attributes.get(node.attr, Value()))
        for key in held.callables & self.classes.keys():
            out.callables |= {self.method(key, node.attr)} - {None}  # type: ignore[arg-type]
        return out

    def returned(self, key: str) -> Value:
        """What calling a function or class gives."""
        if key in self.classes:
            return Value(instances={key})
        function = self.functions[key]
        return self.annotated(function.node.returns, function.scope)

    def _result(self, node: ast.Call, scope: Scope) -> Value:
        out, called = Value(), self.value(node.func, scope).callables
        for key in called:
            out.add(self.returned(key))
        if called:
            return out
        name = called_name(node)
        if name == "super" and isinstance(found := scope.find("self"), Value):
            return Value(instances={b for key in found.instances for b in self.bases(key)})
        parts = [*node.args, *(k.value for k in node.keywords)]
        parts += [node.func.value] if isinstance(node.func, ast.Attribute) else []
        for part in parts:
            given = self.value(part, scope)
            out.instances |= given.instances
            for key in given.callables:
                out.add(Value(callables={key}) if name in PASS_THROUGH else self.returned(key))
        return out

    # --- variables ----------------------------------------------------------------------------------------------
    def _bind(self, key: str, function: Function) -> None:
        """Record what the parameters and variables of a function, and the attributes it sets, may hold."""
        scope, arguments = function.scope, function.node.args
        every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
        for argument in filter(None, every):
            scope.variables.setdefault(argument.arg, Value()).add(self.annotated(argument.annotation, scope))
        if function.owner and arguments.args:
            first = Value({function.owner}) if arguments.args[0].arg == "self" else Value(callables={function.owner})
            scope.variables[arguments.args[0].arg].add(first)
        for node in own_nodes(function.node):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._assign(target, node.value, scope)
            elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
                self._assign(node.target, node.value, scope)
            elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
                self._assign(node.target, node.iter, scope)
            elif isinstance(node, ast.withitem) and node.optional_vars:
                self._assign(node.optional_vars, node.context_expr, scope)
            if isinstance(node, ast.AnnAssign):
                self._store(node.target, self.annotated(node.annotation, scope), scope)

    def _assign(self, target: ast.expr, value: ast.expr, scope: Scope) -> None:
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            pairs = list(zip(target.elts, value.elts, strict=True))
        for left, right in pairs:
            self._store(left, self.value(right, scope), scope)

    def _store(self, target: ast.expr, value: Value, scope: Scope) -> None:
        if isinstance(target, ast.Name):
            scope.variables.setdefault(target.id, Value()).add(value)
        elif isinstance(target, (ast.Tuple, ast.List, ast.Starred)):
            for part in [target.value] if isinstance(target, ast.Starred) else target.elts:
                self._store(part, value, scope)
        elif isinstance(target, ast.Attribute):
            for key in self.value(target.value, scope).instances:
                self.classes[key].attributes[target.attr].add(value)
