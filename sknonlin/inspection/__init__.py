from sknonlin.inspection._layer_profile import LayerProfileDisplay
from sknonlin.inspection._rank_curve import RankCurveDisplay

__all__ = [
    "LayerProfileDisplay",
    "RankCurveDisplay",
]
