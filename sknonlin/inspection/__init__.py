from sknonlin.inspection._layer_profile import LayerProfileDisplay
from sknonlin.inspection._memorized_samples import MemorizedSamplesDisplay
from sknonlin.inspection._rank_curve import RankCurveDisplay

__all__ = [
    "LayerProfileDisplay",
    "MemorizedSamplesDisplay",
    "RankCurveDisplay",
]
