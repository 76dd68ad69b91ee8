"""``python -m tft_core.training_pipeline``: the same thing as ``tft run``."""

import sys

if __name__ == "__main__":
    from tft_core.cli import main

    sys.exit(main(["run", *sys.argv[1:]]))
