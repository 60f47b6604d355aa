"""The names that this package adds to the registries: `model=tabletop`, `data=tabletop`, `judge=rules` and what belongs to them."""

from pathlib import Path

from cosmos_exp.config.registry import (
    DATA_BUILDERS,
    DATA_MAKERS,
    INVERSE_DYNAMICS,
    JUDGES,
    MODEL_BUILDERS,
    PRELOADED,
    VAE_CLASSES,
    WEIGHT_FOLDERS,
)

MODEL_BUILDERS.add("tabletop", "cosmos_exp.tabletop.build:model_folder")
WEIGHT_FOLDERS.add("tabletop", Path(__file__).parent / "weights")
VAE_CLASSES.add("LinearVideoAutoencoder", "cosmos_exp.tabletop.linear_autoencoder:LinearVideoAutoencoder")
DATA_BUILDERS.add("tabletop", "cosmos_exp.tabletop.dataset:data_folder")
DATA_MAKERS.add("tabletop", "cosmos_exp.tabletop.dataset:make_dataset")
JUDGES.add("rules", "cosmos_exp.tabletop.judge:RulesJudge")
INVERSE_DYNAMICS.add("tabletop", Path(__file__).parent / "weights" / "idm" / "tabletop.pt")
PRELOADED += ["cosmos_exp.tabletop.dataset", "cosmos_exp.tabletop.judge"]
