"""The inverse dynamics model of the embedded world: frames of a clip to the positions and openings of both hands.

    python -m cosmos_exp.tabletop.idm --out FILE      # train it; figures are in weights/idm/README.md

It is trained on rendered clips, whose hand positions are known. `weights/idm/tabletop.pt` is the shipped file.
"""
