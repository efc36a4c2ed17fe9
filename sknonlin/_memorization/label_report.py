"""Scores of samples as a frame, the labels that look worst first."""

import numpy as np
from scipy.special import expit


def report_frame(pd, X, given, classes, scores, sources, offset):
    """Make a frame of scores of samples.

    Parameters
    ----------
    pd : module
        pandas.
    X : object
        The samples; a frame hands on the labels of its rows.
    given, classes : ndarrays
        Labels of the samples, and those that are suggested from.
    scores : SampleScores
    sources : list of str
        Names of the columns of ``scores.evidence``.
    offset : float
        Scores above it are flagged.

    Returns
    -------
    frame : pandas.DataFrame
    """
    frame = pd.DataFrame(
        {
            "index": np.arange(len(given)),
            "given": given,
            "suggested": classes[scores.suggested],
            "score": scores.score,
            "layer": np.asarray(sources, dtype=object)[scores.evidence.argmax(1)],
            "flagged": scores.score > offset,
            "probability": expit(scores.score),
            "certainty": scores.certainty,
        }
    )
    frame = frame.sort_values("score", ascending=False, ignore_index=True)
    if isinstance(X, pd.DataFrame):
        frame.index = X.index[frame["index"]]
        names = frame.index.names  # of which none may be that of a column
        frame.index.names = [None if name in frame else name for name in names]
    return frame
