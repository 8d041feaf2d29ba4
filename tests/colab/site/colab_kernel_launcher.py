"""Start a kernel as Colab does: ``google.colab`` is imported before the first cell runs."""

from google.colab._kernel import Kernel
from ipykernel.kernelapp import IPKernelApp

IPKernelApp.launch_instance(kernel_class=Kernel)
