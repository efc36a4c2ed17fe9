"""When to stop a training whose score has turned, and what to tell of it."""

import math

import torch

from sknonlin._memorization.turning_point import TurningPoint

WINDOW = 7  # measurements that are averaged
CONFIDENCE = 4.0  # standard errors
LOAD_CONFIDENCE = 1.0  # that the last weights are worse by, to load those of the best epoch


class Stopper:
    """Decide from a monitor's measurements, keep the best weights, and say why.

    Parameters
    ----------
    load_best : bool
        Whether weights are kept.
    first : int, default=0
        Epochs of the training before, of which the count goes on.

    Attributes
    ----------
    stops : bool
        Whether memorization was seen.
    known : bool
        Whether the score can tell: not that of the layers where that of the answers was
        asked for, but the input tells too few labels. The layers' falls, too, while a
        network learns what is hard.
    best_epoch, epoch : int
        The one with the highest score, and the last one, counted from 1.
    loaded : bool
        Whether the weights of the best epoch were loaded.
    weights : dict of str to dict, or None
        States of the modules at the best epoch, by name.
    """

    def __init__(self, load_best, first=0):
        self.first = first
        self.turn = TurningPoint(WINDOW, CONFIDENCE)
        self.load_best, self.weights = load_best, None
        self.stops, self.known, self.loaded = False, True, False
        self.wrong_share = math.nan

    @property
    def epoch(self):
        """The last epoch."""
        return self.first + len(self.turn.means)

    @property
    def best_epoch(self):
        """The epoch with the highest score."""
        return self.first + self.turn.best + 1

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
        self.known = monitor.sample_scores_ is not None or not monitor.n_samples
        self.stops = self.turn.update(score, monitor.sample_scores_) and self.known
        if self.load_best and self.best_epoch == self.epoch:
            self.weights = {name: copied(m.state_dict()) for name, m in modules.items()}
        return self.stops

    def finish(self, modules, *, only_if_stopped=False):
        """Load the best weights, and let go of them.

        Where nothing stopped, they are loaded if the last ones are worse.

        Parameters
        ----------
        modules : dict of str to torch.nn.Module
        only_if_stopped : bool, default=False
            Leave the last weights where nothing stopped.
        """
        worse = self.known and self.turn.is_below_best(LOAD_CONFIDENCE)
        loads = self.stops or (worse and not only_if_stopped)
        self.loaded = loads and self.weights is not None
        if self.loaded:
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
        kept = f" The weights are those of epoch {self.best_epoch}." * self.loaded
        if not self.known:
            return (
                f"Trained to the last epoch, {self.epoch}. The input tells too few labels "
                "to know whether they are memorized. n_samples=0 stops by the layers alone."
            )
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
