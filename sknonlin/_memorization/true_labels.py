"""What the true labels of training samples may be, before a network learns them.

A reader of the input answers for every sample by the labels of the others. A table tells
how often labels of each class are given as another. Both are fitted to the labels given.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import softmax

from sknonlin._matrices.stack import NotFiniteError
from sknonlin._memorization.activation_rows import SampleFeatures
from sknonlin._memorization.inputs import is_counts
from sknonlin._memorization.label_readers import (
    RidgeReader,
    Scaler,
    affordable_landmarks,
)

SHARPNESS = (2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0)  # of a reader's answers
N_STEPS = 15  # of expectation and maximization
LEAST_SHARE = 0.1  # of wrong labels, to begin with
PRIOR_RIGHT, PRIOR_ALL = 0.05, 0.2  # samples in the table before any: share, number
WELL_READ = 0.65  # share of true labels that the reader expects to tell
MOST_CLASSES = 200  # with more, the table takes long and has few samples for each


@dataclass
class TrueLabels:
    """Probabilities of the true labels.

    Attributes
    ----------
    shares : ndarray of shape (n_samples, n_classes)
        For every sample, given its label too.
    known : float
        Share of the true labels that the reader expects to tell without them.
    likelihood : float
        Mean logarithm, of the labels given.
    """

    shares: np.ndarray
    known: float
    likelihood: float

    @property
    def readable(self):
        """Whether the reader tells enough of them to judge a network by."""
        return self.known >= WELL_READ

    @property
    def wrong_share(self):
        """Expected share of labels given that are wrong; NaN if it is not known."""
        return self._wrong

    def given(self, codes):
        """Note what labels are given; return self."""
        own = self.shares[np.arange(len(codes)), codes]
        self._wrong = float(1 - own.mean())
        return self


def explain(answers, codes):
    """Explain labels given by a reader's answers and a table of noise.

    Parameters
    ----------
    answers : ndarray of shape (n_samples, n_classes)
        What every label would be by the other samples, as a share of each class.
    codes : ndarray of int of shape (n_samples,)
        The labels given. No label is one that is not among them.

    Returns
    -------
    TrueLabels
        Of the sharpness with the highest likelihood.
    """
    present, own = np.unique(codes, return_inverse=True)
    seen = answers[:, present]
    found = [with_sharpness(softmax(b * seen, 1), own) for b in SHARPNESS]
    best = max(found, key=lambda labels: labels.likelihood)
    shares = np.zeros_like(answers, dtype=best.shares.dtype)
    shares[:, present] = best.shares
    return replace(best, shares=shares).given(codes)


def with_sharpness(classes, codes):
    """Fit the table of noise to the shares of the classes, by steps of expectation."""
    n_samples, n_classes = classes.shape
    table = np.full((n_classes, n_classes), LEAST_SHARE / n_classes)
    table += (1 - LEAST_SHARE) * np.eye(n_classes)
    prior = PRIOR_ALL + PRIOR_RIGHT * n_samples / n_classes * np.eye(n_classes)
    given = np.zeros((n_samples, n_classes))
    given[np.arange(n_samples), codes] = 1
    for _ in range(N_STEPS):
        joint = classes * table.T[codes]
        table = (joint / joint.sum(1, keepdims=True)).T @ given + prior
        table /= table.sum(1, keepdims=True)
    joint = classes * table.T[codes]
    total = joint.sum(1, keepdims=True)
    known, likelihood = classes.max(1).mean(), np.log(total).mean()
    return TrueLabels(joint / total, float(known), float(likelihood))


def read_labels(batch, codes, n_classes, dtype, random_state):
    """Find the true labels of a batch from what goes into the network.

    Parameters
    ----------
    batch : nested tensors
        The samples.
    codes : ndarray of int of shape (n_samples,)
        The labels given.
    n_classes : int
    dtype : torch.dtype
        Of the rows that are made of the samples.
    random_state : int
        Seeds the draw of landmarks.

    Returns
    -------
    TrueLabels or None
        By the part of the input that explains the labels best. None where there is none
        that can be read, where classes are very many, or only one.
    """
    if not 1 < n_classes <= MOST_CLASSES or len(np.unique(codes)) < 2:
        return None
    features = SampleFeatures("relu", n_classes, dtype, nonnegative=False)
    try:
        rows = features.input_rows(batch, len(codes))
    except NotFiniteError:  # as of data in which values are missing
        return None
    found = []
    for name, part in rows.items():
        A = np.ascontiguousarray(part.cpu().numpy())
        if not np.isfinite(A).all():
            continue
        counts = is_counts(name)
        reader = RidgeReader(
            Scaler(counts).fit(A), not counts, "cpu", random_state, affordable_landmarks()
        )
        found.append(explain(reader.fit(A, codes, n_classes), codes))
    return max(found, key=lambda labels: labels.likelihood, default=None)
