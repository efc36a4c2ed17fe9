"""Tell whether a ReLU network learned or memorized."""

from sknonlin.bounds import RankBounds, rank_bounds
from sknonlin.comparison import NetworkComparison, compare_networks
from sknonlin.detector import MemorizationDetector
from sknonlin.nmf import NMFPath, nmf_path, nnls
from sknonlin.nonlinearity import ActivationNonlinearity
from sknonlin.profile import LayerProfile, layer_profile

__version__ = "0.1.0.dev0"

__all__ = [
    "ActivationNonlinearity",
    "LayerProfile",
    "MemorizationDetector",
    "NMFPath",
    "NetworkComparison",
    "RankBounds",
    "__version__",
    "compare_networks",
    "layer_profile",
    "nmf_path",
    "nnls",
    "rank_bounds",
]
