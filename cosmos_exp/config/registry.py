"""What a configuration can name: functions and classes of this package and of plugins, by name.

A configuration holds names, never code, so a configuration file of somebody else can run nothing. Code fills the registries:
this module for the package itself, a plugin while it is imported:

    from cosmos_exp.config.registry import JUDGES
    JUDGES.add("flicker", FlickerJudge)

`cosmos-exp --plugin my_module …` imports a plugin; so do COSMOS_EXP_PLUGINS=my_module,… and an installed package's entry
point in the group `cosmos_exp.plugins`.
"""

from __future__ import annotations

import difflib
import functools
import os
import pkgutil
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cosmos_exp.errors import UserError

PLUGINS = "COSMOS_EXP_PLUGINS"
"""Environment variable: modules to import, separated by commas. Child processes inherit it; `--plugin` adds to it."""
ENTRY_POINTS = "cosmos_exp.plugins"
SHIPPED = ("cosmos_exp.tabletop.plugin",)  # also without the entry points of an installed package, in a plain checkout

_loaded: set[str] = set()


class Registry:
    """Functions or classes by the name that a configuration gives.

    Args:
        key: the configuration key that holds the name, for errors.
        targets: as for `add`, by name.
    """

    def __init__(self, key: str, **targets: object):
        self.key, self.targets = key, targets

    @property
    def names(self) -> list[str]:
        """All names, those of plugins last."""
        load_plugins()
        return list(self.targets)

    def add(self, name: str, target: object) -> None:
        """Add a function or class: the object itself, or `package.module:name`, which is imported at its first use."""
        self.targets[name] = target

    def get(self, name: str | None) -> Any:  # Any: each caller knows the type of its registry
        """The function or class of a name.

        Raises:
            UserError: there is no such name.
        """
        if name is None or name not in self.names:
            raise UserError(f"{self.key}={name}: {unknown_name(name or '', self.names)}")
        target = self.targets[name]
        if isinstance(target, str):
            target = self.targets[name] = pkgutil.resolve_name(target)
        return target

    def source(self, name: str) -> Path:
        """The file of the module that defines the function or class of a name. It is not imported for this."""
        target = self.targets[name]
        module = target.partition(":")[0] if isinstance(target, str) else target.__module__
        return Path(find_spec(module).origin)  # type: ignore[union-attr, arg-type]  # a registered module exists


def unknown_name(name: str, names: list[str]) -> str:
    """What to say of a name that is none of `names`: the nearest one, and the choices."""
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"no such choice; {hint}choose one of {', '.join(names)}"


def load_plugins() -> None:
    """Import the plugins that are not imported yet.

    Raises:
        UserError: one cannot be imported.
    """
    named = [name for name in os.environ.get(PLUGINS, "").split(",") if name]
    for name in [*SHIPPED, *_installed_plugins(), *named]:
        if name in _loaded:
            continue
        _loaded.add(name)  # first, as a plugin may itself ask a registry
        try:
            import_module(name)
        except Exception as error:  # whatever the module raises
            _loaded.discard(name)
            raise UserError(
                f"--plugin {name}: cannot be imported ({type(error).__name__}: {error}). Give the name of a module in an "
                "installed package or in a folder on PYTHONPATH, e.g. PYTHONPATH=. cosmos-exp --plugin my_module …"
            ) from error


@functools.cache
def _installed_plugins() -> tuple[str, ...]:
    return tuple(point.module for point in metadata.entry_points(group=ENTRY_POINTS))


def _nothing(*_: object) -> None:
    """Build what adapter=none, adapter=full and judge=none name: nothing."""


# (Adapter settings) -> peft's configuration of the adapter; None: nothing is added to the transformer.
ADAPTERS = Registry(
    "adapter.kind",
    none=_nothing,
    lora="cosmos_exp.world.adapter:lora",
    dora="cosmos_exp.world.adapter:dora",
    full=_nothing,
    peft="cosmos_exp.world.adapter:peft_method",
)

# (Model, cache folder) -> the diffusers folder of an embedded model.
MODEL_BUILDERS = Registry("model.builder")

# (Config, cache folder) -> the folder of the data, rendered on first use, and that of the test pairs or None.
DATA_BUILDERS = Registry("data.builder")

# (Data, folder) -> Episodes: the clips of one layout on disk.
READERS = Registry(
    "data.reader",
    folder="cosmos_exp.data.readers.folder:read_folder",
    gr1_100="cosmos_exp.data.readers.folder:read_gr1",
    lerobot="cosmos_exp.data.readers.lerobot:read_lerobot",
)

# (Sampson settings, threads) -> a Matcher.
MATCHERS = Registry(
    "sampson.matcher",
    sift="cosmos_exp.metrics.geometry.matching:SiftMatcher",
    superpoint_lightglue="cosmos_exp.metrics.geometry.lightglue:LightGlueMatcher",
)

# metrics.interface.MeasureFunction, in the order in which a run calls them. `MEASURES` says which measures each one gives.
MEASURE_FUNCTIONS = Registry(
    "measure",
    sampson="cosmos_exp.metrics.geometry.sampson:measure_sampson",
    side="cosmos_exp.metrics.prompt_sensitivity:measure_side",
    recording="cosmos_exp.metrics.recording.measures:measure_recording",
    motion="cosmos_exp.metrics.recording.measures:measure_motion",
    scene="cosmos_exp.metrics.recording.measures:measure_scene",
)


# (Judge settings, device, precision "bf16" or "no", seed) -> a metrics.judges.interface.Judge, or None.
JUDGES = Registry(
    "judge.name",
    none=_nothing,
    reason2="cosmos_exp.metrics.judges.reason2:Reason2",
    server="cosmos_exp.metrics.judges.server:ServerJudge",
)

# Autoencoder classes by the `_class_name` in vae/config.json of a diffusers folder.
VAE_CLASSES = Registry("_class_name in vae/config.json", AutoencoderKLWan="diffusers:AutoencoderKLWan")

# Path of the folder of trained weights that a plugin brings for its model builder of the same name; a published card names it.
WEIGHT_FOLDERS = Registry("model.builder")

# (folder, split=, look=, views=, count=, seed=) -> the files that `cosmos-exp data make NAME` has rendered into the folder.
DATA_MAKERS = Registry("cosmos-exp data make")

PRELOADED: list[str] = []
"""Modules of plugins that take long to import: the fork server of a sweep imports them once for all runs."""

# Path of the file of an inverse dynamics model, which `cosmos-exp trajectories --actions idm:NAME` loads.
INVERSE_DYNAMICS = Registry("--actions")

# Those whose names are values of configuration keys.
REGISTRIES = (ADAPTERS, MODEL_BUILDERS, DATA_BUILDERS, READERS, MATCHERS, JUDGES)
