"""Displays of what was measured; matplotlib is imported when one is drawn."""

from sknonlin.inspection._comparison import NetworkComparisonDisplay
from sknonlin.inspection._layer_profile import LayerProfileDisplay
from sknonlin.inspection._memorized_samples import MemorizedSamplesDisplay
from sknonlin.inspection._rank_curve import RankCurveDisplay
from sknonlin.inspection._training import TrainingDisplay

__all__ = [
    "LayerProfileDisplay",
    "MemorizedSamplesDisplay",
    "NetworkComparisonDisplay",
    "RankCurveDisplay",
    "TrainingDisplay",
]
