"""When to stop a training whose score has turned, and what to tell of it."""

import math
from contextlib import nullcontext

from sknonlin._matrices.stack import NotFiniteError
from sknonlin._memorization.monitor import sample_scores
from sknonlin._memorization.turning_point import TurningPoint
from sknonlin._memorization.weight_average import WeightAverage, load, states_of

# Measurements that are averaged, and standard errors: of an epoch's own weights, and of
# averaged ones, whose scores are less noisy.
WINDOW, CONFIDENCE = 7, 4.0
AVERAGED_WINDOW, AVERAGED_CONFIDENCE = 3, 3.0
LIKELY = 2.0  # standard errors that are told, but do not stop
LOAD_CONFIDENCE = 1.0  # that the last weights are worse by, to load those of the best epoch


class Stopper:
    """Decide from a monitor's measurements, keep the best weights, and say why.

    Parameters
    ----------
    load_best : bool
        Whether weights are kept.
    average : bool, default=False
        Whether these are averages, which are then measured, too.
    n_samples : int or str, default="auto"
        Of the monitor; 0, as by the layers alone nothing is averaged.
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
    loaded_epoch : int or None
        The epoch whose weights were loaded.
    weights : dict of str to dict, or None
        States of the modules at the best epoch, by name.
    """

    def __init__(self, load_best, average=False, n_samples="auto", first=0):
        self.first = first
        self.load_best, self.weights = load_best, None
        self.averages = average and load_best and n_samples != 0
        self.average = WeightAverage() if self.averages else None
        if self.average is None:
            self.turn = TurningPoint(WINDOW, CONFIDENCE)
        else:
            self.turn = TurningPoint(AVERAGED_WINDOW, AVERAGED_CONFIDENCE)
        self.stops, self.known, self.loaded_epoch = False, True, None
        self.wrong_share = math.nan
        self._monitor, self._stays = None, True

    def end_epoch(self, modules):
        """Count the weights of an epoch, whether it is measured or not."""
        if self.average is not None:
            self.average.update(modules)

    def as_measured(self, modules):
        """Context in which modules have the weights that are measured after an epoch.

        They are averages, or an epoch's own if those are not finite.
        """
        if self.average is None or not self.average.current:
            return nullcontext()
        return self.average.in_place(modules)

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
        self._monitor, self.wrong_share = monitor, monitor.wrong_share_
        self.known = not (monitor.n_samples and math.isnan(monitor.wrong_share_))
        self.stops = self.turn.update(score, monitor.sample_scores_) and self.known
        if self.load_best and self.best_epoch == self.epoch:
            average = self.average
            self.weights = average.states(modules) if average else states_of(modules)
        return self.stops

    def finish(self, net, modules, *, only_if_stopped=False):
        """Load the best weights, and let go of them.

        Where nothing stopped, they are loaded if the last ones are worse. If they are not,
        but averages are kept, the last average is, if it scores higher than the last
        weights themselves.

        Parameters
        ----------
        net : torch.nn.Module or skorch net
            That the monitor measured.
        modules : dict of str to torch.nn.Module
            Its modules.
        only_if_stopped : bool, default=False
            Leave the last weights where nothing stopped.
        """
        self._stays = not self.load_best or (only_if_stopped and not self.stops)
        worse = self.known and self.turn.is_below_best(LOAD_CONFIDENCE)
        if self.weights is not None and not self._stays:
            if self.stops or worse:
                self._load(modules, self.weights, self.best_epoch)
            elif self._is_average_better(net):
                self._load(modules, self.average.values, self.epoch)
        self.weights = self.average = self._monitor = None

    def _load(self, modules, states, epoch):
        load(modules, states)
        self.loaded_epoch = epoch

    def _is_average_better(self, net):
        """Whether the last average scores higher than the last weights do."""
        averaged = self._monitor.sample_scores_
        if self.average is None or averaged is None:
            return False
        try:
            return averaged.mean() > sample_scores(self._monitor, net).mean()
        except NotFiniteError:
            return True

    def reason(self):
        """Say in words when it stopped, and why."""
        if not self.known:
            return (
                f"Trained to the last epoch, {self.epoch}. The input tells too few labels "
                "to know whether they are memorized. n_samples=0 stops by the layers alone."
            )
        about = ""
        if not math.isnan(self.wrong_share):
            about = f" About {self.wrong_share:.0%} of the labels seem wrong."
        if self.stops:
            verdict = f"Stopped after epoch {self.epoch}: wrong labels are being memorized."
        else:
            verdict = f"Trained to the last epoch, {self.epoch}: {self._seen()}."
        return f"{verdict}{self._fall()}{self._kept()}{about}"

    def _seen(self):
        """Say what was seen of a training that was not stopped."""
        if len(self.turn.means) <= self.turn.window:
            return "too few measurements to see memorization"
        if self.turn.fall > LIKELY * self.turn.error:
            return "memorization is likely, but not certain"
        return "no memorization was seen"

    def _fall(self):
        """Say how far the score is below its best."""
        if not self.turn.fall:
            return ""
        errors = ""
        if self.turn.error and math.isfinite(self.turn.error):
            errors = f", {self.turn.fall / self.turn.error:.1f} standard errors,"
        return (
            f" The score, averaged over {self.turn.window} epochs, is "
            f"{100 * self.turn.fall:.1f} points{errors} below its best."
        )

    def _kept(self):
        """Say which weights the network has now, if they were for the stopper to choose."""
        if self._stays:
            return ""
        if self.loaded_epoch is None:
            return " The weights are those of the last epoch."
        if self.averages:
            return f" The weights are averages over the epochs up to {self.loaded_epoch}."
        return f" The weights are those of epoch {self.loaded_epoch}."
