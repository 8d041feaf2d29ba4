"""The code behind the chapters: one module per idea, each readable in one sitting.

Reading order, no module imports a later one: :mod:`helpers.sealed`, :mod:`helpers.memory`,
:mod:`helpers.shapes`, :mod:`helpers.profiles`, :mod:`helpers.assets`, :mod:`helpers.checks`,
:mod:`helpers.plots`, :mod:`helpers.show`, and then one module per group of chapters, such as
:mod:`helpers.finetuning`.
"""

__version__ = "0.1.0"
