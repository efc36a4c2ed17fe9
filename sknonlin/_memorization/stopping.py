"""When to stop a training whose score has turned, and what to tell of it."""

import math

import torch

from sknonlin._memorization.turning_point import TurningPoint

WINDOW = 7  # measurements that are averaged
CONFIDENCE = 4.0  # standard errors


class Stopper:
    """Decide from a monitor's measurements, keep the best weights, and say why.

    Parameters
    ----------
    load_best : bool
        Whether weights are kept.

    Attributes
    ----------
    stops : bool
        Whether memorization was seen.
    best_epoch, epoch : int
        The one with the highest score, and the last one, counted from 1.
    weights : dict of str to dict, or None
        States of the modules at the best epoch, by name.
    """

    def __init__(self, load_best):
        self.turn = TurningPoint(WINDOW, CONFIDENCE)
        self.load_best, self.weights = load_best, None
        self.stops, self.wrong_share = False, math.nan

    @property
    def epoch(self):
        """The last epoch."""
        return len(self.turn.means)

    @property
    def best_epoch(self):
        """The epoch with the highest score."""
        return self.turn.best + 1

    def update(self, score, monitor, modules):
        """Follow an epoch; return whether to stop.

        Parameters
        ----------
        score : float
            Of the epoch.
        monitor : NonlinearityMonitor
            That gave it.
        modules : dict of str to torch.nn.Module
            Whose weights are kept.
        """
        self.wrong_share = monitor.wrong_share_
        self.stops = self.turn.update(score, monitor.sample_scores_)
        if self.load_best and self.best_epoch == self.epoch:
            self.weights = {name: copied(m.state_dict()) for name, m in modules.items()}
        return self.stops

    def finish(self, modules):
        """Load the best weights, whether it stopped or not; let go of them."""
        if self.weights is not None:
            for name, module in modules.items():
                module.load_state_dict(self.weights[name])
        self.weights = None

    def reason(self):
        """Say in words when it stopped, and why."""
        about = ""
        if not math.isnan(self.wrong_share):
            about = f" About {self.wrong_share:.0%} of the labels seem wrong."
        fall = f"{100 * self.turn.fall:.1f} points"
        if self.turn.error and math.isfinite(self.turn.error):
            fall += f", {self.turn.fall / self.turn.error:.1f} standard errors"
        kept = f" The weights are those of epoch {self.best_epoch}." * self.load_best
        if not self.stops:
            return (
                f"Trained to the last epoch, {self.epoch}: no memorization was seen. The "
                f"score is {fall} below its best.{kept}{about}"
            )
        return (
            f"Stopped after epoch {self.epoch}: wrong labels are being memorized. The "
            f"score has fallen by {fall}, from its best.{kept}{about}"
        )


def copied(state):
    """Copy a module's state."""
    return {
        name: value.detach().clone() if isinstance(value, torch.Tensor) else value
        for name, value in state.items()
    }
