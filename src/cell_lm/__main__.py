"""``python -m cell_lm``: the same as the command ``cell-lm``."""

from cell_lm.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
