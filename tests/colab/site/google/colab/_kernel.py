"""The kernel of the stand-in: IPython's, with a shell whose class lies in ``google.colab``."""

from ipykernel.ipkernel import IPythonKernel
from ipykernel.zmqshell import ZMQInteractiveShell
from traitlets import Type


class Shell(ZMQInteractiveShell):
    """IPython's shell under the name by which libraries recognize Colab."""


Shell.__module__ = "google.colab._shell"


class Kernel(IPythonKernel):
    """IPython's kernel with that shell."""

    shell_class = Type(Shell)
