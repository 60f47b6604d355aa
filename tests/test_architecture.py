"""benchmarks/architecture.py on small packages made here: each figure counts what it says."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))

import architecture  # noqa: E402
import common  # noqa: E402
from architecture import Target  # noqa: E402
from call_graph import CallGraph  # noqa: E402

ENTRY = """
    from {package}.cli import train

    def main(argv=None):
        return argv[0]()
"""


@pytest.fixture
def make(tmp_path, request):
    """make({"a.py": source, …}) writes a package and returns its figures by name; `make.root`, `make.package`."""
    package = f"pkg_{abs(hash(request.node.name))}"

    def write(files, targets=()):
        for name, source in files.items():
            path = tmp_path / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source).replace("{package}", package))
        for folder in [tmp_path / package, *(tmp_path / package).glob("*/")]:
            (folder / "__init__.py").touch()
        return {f.name: f for f in architecture.measure(tmp_path, package, targets)}

    write.root, write.package = tmp_path, package
    return write


def calls(make, files, function, command="train", avoid=()):
    """The functions on the path to `function`, without the package and module names."""
    figures = make({"cli/entry.py": ENTRY, **files}, [Target(function, command, avoid)])
    figure = figures[f"calls to {function}"]
    return figure.value, [name.split(".")[-1] for name in figure.details]


def test_a_circle_is_found_also_through_a_lazy_import_and_not_through_type_checking(make):
    lazy = "def f():\n    from {package}.b import g\n    return g"
    figures = make({"a.py": lazy, "b.py": "from {package} import a\ndef g(): ...", "c.py": "import {package}.a"})
    assert figures["import circles"].value == 1
    assert figures["import circles"].failed
    assert figures["import circles"].details == [f"{make.package}.a <-> {make.package}.b"]
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {package}.b import g"
    assert make({"a.py": typed})["import circles"].value == 0


def test_layers_count_packages_and_loose_modules_below_them_as_one(make):
    files = {
        "errors.py": "",
        "files.py": "import {package}.errors",
        "config/schema.py": "import {package}.files",
        "world/loading.py": "import {package}.config.schema",
        "data/cache.py": "import {package}.config.schema",
        "cli/run.py": "import {package}.world.loading, {package}.data.cache",
        "__main__.py": "import {package}.cli.run",
    }
    floors = make(files)["layers of imports"]
    assert floors.value == 4
    assert floors.details[0].startswith("ground layer < config < ")
    assert make({"runner.py": "import {package}.cli.run"})["layers of imports"].value == 5  # loose, but on top
    assert make({})["loose modules"].value == 3


def test_a_file_of_351_lines_is_over_the_limit_and_named(make):
    figures = make({"a.py": "x = 1\n" * 350})
    assert not figures["longest file, lines"].failed
    figures = make({"a.py": "x = 1\n" * 351})
    assert figures["longest file, lines"].failed
    assert figures["longest file, lines"].details == [f"{make.package}/a.py: 351"]


def test_any_and_fmt_skip_are_counted_in_annotations_and_comments_only(make):
    source = """
        from typing import Any, cast

        def f(a: Any, b: "dict[str, Any]", *c: int) -> list[Any]:
            d: Any = cast(Any, a)  # fmt: skip
            return [d, "# fmt: skip"]
    """
    figures = make({"a.py": source})
    assert figures["Any in annotations"].value == 4
    assert figures["Any as a whole annotation"].value == 2
    assert figures["fmt: skip comments"].value == 1


def test_a_path_of_plain_calls_closures_and_imports_inside_functions(make):
    files = {
        "cli/train.py": """
            def run(args):
                from {package}.loop import start as begin
                begin(args)
        """,
        "loop.py": """
            from {package} import steps

            def start(args):
                def once():
                    return steps.step(args)
                return library(once)()
        """,
        "steps.py": "def step(args): return goal()\ndef goal(): ...",
    }
    assert calls(make, files, "goal") == (5, ["main", "run", "start", "once", "step", "goal"])


def test_methods_of_constructed_annotated_and_returned_objects(make):
    files = {
        "cli/train.py": """
            from {package}.trainer import Trainer, load
            from {package}.judges import Judge

            def run(args):
                prepare(load())

            def prepare(trainer: "Trainer | None"):
                Trainer(3).fit()
        """,
        "trainer.py": """
            from {package}.judges import Judge

            class Trainer:
                def __init__(self, steps):
                    self.parts = [Part() for _ in range(steps)]

                def fit(self):
                    for part in self.parts:
                        part.step()

            class Part:
                judge: Judge

                def step(self):
                    self.judge.ask()

            def load() -> Trainer: ...
        """,
        "judges.py": """
            from typing import Protocol

            class Judge(Protocol):
                def ask(self): ...

            class Model:
                def ask(self):
                    goal()

            def goal(): ...
        """,
    }
    names = ["main", "run", "prepare", "fit", "step", "ask", "goal"]
    assert calls(make, files, "goal") == (6, names)


def test_a_function_passed_on_is_called_by_the_one_that_receives_it(make):
    files = {
        "cli/train.py": """
            from functools import partial
            from {package}.pool import isolated, work

            def run(args):
                isolated(partial(work, 1))

            def other(pool):
                pool.map(work, [])
        """,
        "pool.py": "def isolated(f): return f()\ndef work(n): return goal()\ndef goal(): ...",
    }
    assert calls(make, files, "goal") == (4, ["main", "run", "isolated", "work", "goal"])
    assert calls(make, files, "work")[0] == 3
    graph = CallGraph(make.root, make.package)
    assert f"{make.package}.pool.work" in graph.edges[f"{make.package}.cli.train.other"]


def test_registries_of_functions_classes_and_dotted_strings(make):
    files = {
        "cli/train.py": """
            from pkgutil import resolve_name
            from {package}.registry import CHECKS, JUDGES

            def run(args):
                for name, check in CHECKS.items():
                    check(args)
                resolve_name(JUDGES[args])(1).ask()
        """,
        "registry.py": """
            def check_data(args): return first()
            def first(): ...
            CHECKS = {"data": check_data}
            JUDGES = {"model": "{package}.judges:Model"}
        """,
        "judges.py": """
            class Model:
                def __init__(self, n): ...
                def ask(self): return second()

            def second(): ...
        """,
    }
    assert calls(make, files, "first") == (3, ["main", "run", "check_data", "first"])
    assert calls(make, files, "second") == (3, ["main", "run", "ask", "second"])


def test_the_path_follows_the_command_named_and_leaves_modules_out(make):
    files = {
        "cli/train.py": "from {package}.loop import long\nfrom {package}.plots import plot\ndef run(a):\n    plot(); long()",
        "cli/short.py": "from {package}.loop import goal\ndef run(a): goal()",
        "loop.py": "def long(): middle()\ndef middle(): goal()\ndef goal(): ...",
        "plots.py": "from {package}.loop import goal\ndef plot(): goal()",
    }
    assert calls(make, files, "goal", "short")[0] == 2
    assert calls(make, files, "goal", "train")[0] == 3
    assert calls(make, files, "goal", "train", ("plots",))[0] == 4


def test_a_target_without_a_path_is_over_the_limit(make):
    count, details = calls(make, {"cli/train.py": "def run(a): ...", "loop.py": "def goal(): ..."}, "goal")
    assert count is None
    assert "annotation" in " ".join(details)
    assert architecture.Figure("calls", None, 5).failed


def test_the_script_runs_without_torch_and_within_seconds():
    command = [sys.executable, "-X", "importtime", str(BENCHMARKS / "architecture.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "calls to Trainer.train" in done.stdout
    assert " torch" not in done.stderr


def test_results_of_benchmarks_are_json_and_undefined_numbers_are_null():
    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    text = common.json_text({"a": [float("nan"), np.float64("inf"), np.float32(0.5), 1], "b": {"c": (None, "x", True)}})
    assert json.loads(text, parse_constant=refuse) == {"a": [None, None, 0.5, 1], "b": {"c": [None, "x", True]}}
    files = [*(BENCHMARKS / "results").glob("*.json"), *(BENCHMARKS.parent / "docs").rglob("*.json")]
    assert len(files) > 20
    for file in files:
        json.loads(file.read_text(), parse_constant=refuse)
