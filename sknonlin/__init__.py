"""Tell whether a ReLU network learned or memorized."""

from sknonlin._version import __version__
from sknonlin.detector import MemorizationDetector
from sknonlin.nmf import NMFPath, nmf_path, nnls
from sknonlin.nonlinearity import ActivationNonlinearity
from sknonlin.profile import LayerProfile, layer_profile

__all__ = [
    "ActivationNonlinearity",
    "LayerProfile",
    "MemorizationDetector",
    "NMFPath",
    "__version__",
    "layer_profile",
    "nmf_path",
    "nnls",
]
