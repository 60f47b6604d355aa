"""The names that this package adds to the registries: `model=tabletop`, `data=tabletop` and `judge=rules`."""

from cosmos_exp.config.registry import DATA_BUILDERS, JUDGES, MODEL_BUILDERS

MODEL_BUILDERS.add("tabletop", "cosmos_exp.tabletop.build:model_folder")
DATA_BUILDERS.add("tabletop", "cosmos_exp.tabletop.dataset:data_folder")
JUDGES.add("rules", "cosmos_exp.tabletop.judge:RulesJudge")
