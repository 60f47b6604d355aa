"""Entry point: python -m cosmos_exp.tabletop.idm."""

from cosmos_exp.tabletop.idm.training import main

if __name__ == "__main__":
    main()
