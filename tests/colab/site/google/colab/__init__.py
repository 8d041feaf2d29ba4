"""Stands for Colab's own package, as far as a notebook can notice it.

Colab's kernel imports this before the first cell, and numpy, pandas and matplotlib with it. If a
set-up replaced one of them, the session would have to be restarted.
"""

import matplotlib  # noqa: F401
import numpy  # noqa: F401
import pandas  # noqa: F401
