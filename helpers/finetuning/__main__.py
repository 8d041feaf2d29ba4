"""``accelerate launch -m helpers.finetuning``: see :mod:`helpers.finetuning.command`."""

import sys

from helpers.finetuning.command import main

if __name__ == "__main__":
    sys.exit(main())
