"""The curves of a profile, by the names that people choose them with."""

import numpy as np

from sknonlin.curves import mean_of_known

#: The curves of a profile, and what they are called on an axis.
CURVES = {"error": "relative error", "accuracy": "accuracy"}


def check_profile(profile, remedy):
    """Refuse what is not a profile.

    Raises
    ------
    TypeError
        If it is not.
    """
    if not hasattr(profile, "batch_errors"):
        raise TypeError(
            f"profile is a {type(profile).__name__}; it must be a LayerProfile, as "
            f"layer_profile returns it. {remedy}"
        )


def has_curve(profile, curve):
    """Whether a profile has values of this curve."""
    batches = profile.batch_errors if curve == "error" else profile.batch_accuracies
    return not np.isnan(batches).all()


def curves_of(profile, curve, over="classes"):
    """Curves of every layer, for each class or for each number of a batch.

    Parameters
    ----------
    profile : LayerProfile
    curve : {"error", "accuracy"}
    over : {"classes", "batches"}
        Those of ``"batches"`` are averaged over the classes.

    Returns
    -------
    curves : ndarray of shape (n_layers, n_curves, n_ranks)

    Raises
    ------
    ValueError
        If the profile has no such curve.
    """
    if not has_curve(profile, curve):
        raise ValueError(
            f"curve={curve!r}: the profile has NaN there, because it was made with "
            "replay=False or of a network that does not classify. Choose the other curve, "
            "or profile a classifier with replay=True."
        )
    batches = profile.batch_errors if curve == "error" else profile.batch_accuracies
    return mean_of_known(batches, 2 if over == "classes" else 1)
