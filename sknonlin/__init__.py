"""Tell whether a ReLU network learned or memorized."""

from sknonlin._version import __version__
from sknonlin.nmf import NMFPath, nmf_path, nnls
from sknonlin.nonlinearity import ActivationNonlinearity

__all__ = ["ActivationNonlinearity", "NMFPath", "__version__", "nmf_path", "nnls"]
