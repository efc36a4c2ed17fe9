"""What a MemorizationDetector warns of: scores that would say little."""

import sys
import warnings
from pathlib import Path

import numpy as np

PACKAGE = str(Path(__file__).parent)

# Samples of a class. On the ten classes of digits, clean, the score's standard deviation
# over seeds is 0.06 with three, 0.03 with five and 0.02 with ten.
N_FEW = 5
N_NAMED = 5  # classes that a message names
LEAST_FIT = 0.5  # share of the training labels, mean over the classes


def warn_user(message):
    """Warn at the line, outside of the package, from which it was called."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def warn_of_misfit(profile):
    """Warn where a network fits no more than half of its training labels.

    Every class counts alike, as in the score; so one that always gives the same answer
    is found out whatever the sizes of the classes.
    """
    fit = np.nanmean(profile.accuracy)
    if fit <= LEAST_FIT:
        warn_user(
            f"The network fits {fit:.2f} of its training labels (the mean over the "
            "classes), and memorization_score_ compares networks that fit theirs: one that "
            "is not trained scores as high as one that memorized. Train it longer before "
            "you compare the score."
        )


def warn_of_few_samples(classes, codes):
    """Warn where most classes have fewer than five samples.

    With one of each at most there is nothing to measure, of which the profile warns.
    """
    labels, counts = np.unique(codes, return_counts=True)
    few = classes[labels[counts < N_FEW]].tolist()
    if 2 * len(few) <= len(labels) or counts.max() == 1:
        return
    named = ", ".join(map(repr, few[:N_NAMED]))
    more = f" and {len(few) - N_NAMED} more" if len(few) > N_NAMED else ""
    warn_user(
        f"{len(few)} of {len(labels)} classes have fewer than {N_FEW} samples ({named}"
        f"{more}). With so few, memorization_score_ changes from draw to draw, and is "
        "lower than on larger batches. Give at least ten samples of every class."
    )
