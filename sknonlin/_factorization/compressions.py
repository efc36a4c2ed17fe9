"""A matrix at rank k by NMF, PCA or random ablation of units, chosen by name.

A compression learns from a stack of matrices one set of components for every rank,
and with them approximates rows, each on its own.
"""

from sknonlin._factorization.ablation_compression import AblationCompression
from sknonlin._factorization.compression import Settings
from sknonlin._factorization.nmf_compression import NMFCompression
from sknonlin._factorization.pca_compression import PCACompression

COMPRESSIONS = {
    kind.name: kind for kind in (NMFCompression, PCACompression, AblationCompression)
}


def make_compression(name, **settings):
    """Make the compression of that name, with :class:`Settings`."""
    return COMPRESSIONS[name](Settings(**settings))
