"""What one CUDA GPU gives: its tests, times against the peers, and where the time goes.

    python doc/benchmarks/gpu.py --data FOLDER --write doc/benchmarks/gpu.md

The package need not be installed, only its checkout in `PYTHONPATH`, and skorch. FOLDER has
the four files of Fashion-MNIST; without it, images are random, which the page says. It ends
in less than six minutes: every part has a process and a time limit of its own. What fails,
or is not installed, is on the page with the reason, and the rest still runs. Work that
takes too long is measured in part and scaled up, and the tables say on how much.

`--smoke` makes everything small, to try the script, also where there is no GPU.
"""

import argparse
import contextlib
import importlib.metadata
import io
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from unittest import mock

import joblib
import networks
import nmf_path
import numpy as np
import torch
from sklearn.decomposition import NMF
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from tables import table, with_answer
from torch import nn
from torch.autograd import DeviceType
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

import sknonlin
from sknonlin._factorization import compiled
from sknonlin.callbacks import NonlinearityScoring
from sknonlin.datasets import FASHION_MNIST_FOLDER, load_fashion_mnist

ROOT = pathlib.Path(__file__).resolve().parents[2]
N_CORES = len(os.sched_getaffinity(0))
TOTAL = 470  # seconds, for all parts together
PACKAGES = (
    *("torch", "scikit-learn", "numpy", "scipy", "joblib", "skorch"),
    *("torchnmf", "nmf-torch"),
)
OURS, SENT = "sknonlin, GPU", "sknonlin, small matrices sent to the CPU"
SKLEARN = f"scikit-learn, {N_CORES} processes"
FEWER = 100  # rows of the large convolution to one that scikit-learn gets


@dataclass(frozen=True)
class Settings:
    """What the script was asked for."""

    data: pathlib.Path | None
    smoke: bool

    @property
    def device(self):
        """Where to compute."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    def images(self):
        """All images and labels, at random without a folder."""
        n = 600 if self.smoke else 60_000
        if self.data is not None:
            fashion = load_fashion_mnist(data_home=self.data)
            return fashion.images[:n], fashion.target[:n]
        rng = np.random.default_rng(0)
        return rng.random((n, 1, 28, 28), np.float32), rng.integers(0, 10, n)


def synchronize():
    """Wait for the GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextlib.contextmanager
def watched():
    """Give a dictionary, which has the seconds, and the GPU memory added, afterwards."""
    found = {"seconds": 0.0, "mebibytes": 0.0}
    before = 0
    synchronize()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    yield found
    synchronize()
    found["seconds"] = time.perf_counter() - start
    if torch.cuda.is_available():
        found["mebibytes"] = (torch.cuda.max_memory_allocated() - before) / 2**20


def reason_of(error):
    """Say in one line why something failed."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"failed: {type(error).__name__}: {first}".replace("|", "/")[:200]


# What is compiled ---------------------------------------------------------------------


def run_compilation(settings, show):
    """Compile the functions for the processor, which all parts after this one find."""
    rows = []
    for dtype in (torch.float32, torch.float64):
        X = torch.rand(40, 30, dtype=dtype)
        transformer = sknonlin.ActivationNonlinearity(ranks=[2])
        calls = {
            "`nmf_path`": lambda X=X: sknonlin.nmf_path(X, [2]),
            "the same from a part of the rows": lambda X=X: sknonlin.nmf_path(
                X, [2], max_rows=20
            ),
            "`nnls`": lambda X=X: sknonlin.nnls(X, X[:3]),
            "`fit_transform`": lambda X=X, own=transformer: own.fit_transform(X),
        }
        for name, call in calls.items():
            with watched() as found:
                call()
            rows.append([name, str(dtype), f"{found['seconds']:.1f}"])
            show(table(["first call", "dtype", "seconds"], rows))


# The tests ----------------------------------------------------------------------------


def run_tests(settings, show):
    """Run the tests that need a GPU; what other packages warn of does not count."""
    files = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "mark.gpu" in path.read_text()
    ]
    options = ["-v", "-W", "default", "--tb=short", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", *options, *files]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    lines = ["nothing was printed"]
    for line in process.stdout:
        print(line, end="", flush=True)
        lines += [line.strip()] if line.strip() else []
        failures = [f"* `{own}`" for own in lines if own.startswith(("FAILED", "ERROR "))]
        last = lines[-1].strip("= ")
        show(f"`pytest -m gpu {' '.join(files)}`; its last line: {last}", "", *failures)
    process.wait()


# Factorizations -----------------------------------------------------------------------


@dataclass
class Workload:
    """Stacks of matrices on the device, and the ranks that they are factorized at.

    Attributes
    ----------
    limit : float
        Seconds for every method, about.
    fewer : int
        Rows to one that scikit-learn gets.
    ours : list of ndarray of shape (n_matrices, n_ranks)
        The errors of sknonlin on the GPU, once they are known.
    """

    stacks: list
    ranks: list
    limit: float
    fewer: int = 1
    ours: list | None = None

    @property
    def n_matrices(self):
        """How many there are in all stacks."""
        return sum(map(len, self.stacks))

    def pairs(self):
        """Stack, matrix and place of a rank, in an order of which every part is even."""
        rng = np.random.default_rng(0)
        orders = [rng.permutation(len(stack)) for stack in self.stacks]
        pairs = []
        for turn in range(max(map(len, orders))):
            own = [(i, int(m[turn])) for i, m in enumerate(orders) if turn < len(m)]
            own = [(*matrix, j) for matrix in own for j in range(len(self.ranks))]
            pairs += [own[place] for place in rng.permutation(len(own))]
        return pairs

    def result(self, seconds, errors, pairs, mebibytes=None):
        """Scale up what was measured on some pairs, of which these are the errors."""
        total = self.n_matrices * len(self.ranks)
        ours = [self.ours[i][m, j] for i, m, j in pairs]
        return {
            "seconds": seconds * total / len(pairs),
            "measured": f"{len(pairs):,} of {total:,} pairs",
            "error": float(np.mean(errors)),
            "against": float(np.mean(errors) / np.mean(ours)),
            "mebibytes": mebibytes,
        }


def whole(run, workload, part=1.0):
    """Time whole stacks: the median of three runs after a warm-up, or what is affordable.

    ``part`` is the share of the matrices that are taken; the time is scaled up.
    """
    stacks = [stack[: max(1, round(part * len(stack)))] for stack in workload.stacks]
    n, times = sum(map(len, stacks)), []
    while len(times) < 4 and (not times or sum(times) + times[-1] < workload.limit):
        with watched() as found:
            errors = [run(stack, workload.ranks) for stack in stacks]
        times.append(found["seconds"])
    counted = times[1:] or times
    errors = [torch.as_tensor(own).cpu().numpy() for own in errors]
    if workload.ours is None:
        workload.ours = errors
    ours = [own[: len(stack)] for own, stack in zip(workload.ours, stacks, strict=True)]
    mean, our_mean = (
        np.concatenate([e.ravel() for e in es]).mean() for es in (errors, ours)
    )
    measured = f"{len(counted)} runs" if times[1:] else "1 run, no warm-up"
    if n < workload.n_matrices:
        measured += f", {n} of {workload.n_matrices} matrices"
    return found | {
        "seconds": statistics.median(counted) * workload.n_matrices / n,
        "measured": measured,
        "error": float(mean),
        "against": float(mean / our_mean),
    }


def pair_by_pair(factors, workload):
    """Time pairs of a matrix and a rank, one after the other, up to the limit."""

    def timed(i, m, j):
        X, nothing = workload.stacks[i][m], io.StringIO()
        with contextlib.redirect_stdout(nothing), watched() as found:
            factored = factors(X, workload.ranks[j])
        W, H = (torch.as_tensor(factor).to(X) for factor in factored)
        return found, float((X - W @ H).norm() / X.norm())

    pairs, results, seconds = workload.pairs(), [], 0.0
    timed(*pairs[0])  # the warm-up
    while len(results) < len(pairs) and seconds < workload.limit:
        results.append(timed(*pairs[len(results)]))
        seconds += results[-1][0]["seconds"]
    founds, errors = zip(*results, strict=True)
    peak = max(found["mebibytes"] for found in founds)
    return workload.result(seconds, errors, pairs[: len(results)], peak)


def sklearn_error(X, rank):
    """Relative error of scikit-learn's NMF; its processes get no more than this."""
    return NMF(rank).fit(X).reconstruction_err_ / np.linalg.norm(X)


def on_all_cores(workload):
    """Time scikit-learn on as many pairs as are affordable, one in every process."""
    pairs, step = workload.pairs(), workload.fewer
    stacks = [stack[:, ::step].cpu().numpy() for stack in workload.stacks]
    with joblib.Parallel(N_CORES) as parallel:

        def timed(chosen):
            chosen = sorted(chosen, key=lambda pair: -pair[2])  # the longest ones first
            start = time.perf_counter()
            errors = parallel(
                joblib.delayed(sklearn_error)(stacks[i][m], workload.ranks[j])
                for i, m, j in chosen
            )
            return time.perf_counter() - start, errors, chosen

        small = np.random.default_rng(0).random((60, 40))
        parallel([joblib.delayed(sklearn_error)(small, 2)] * N_CORES)
        found = timed(pairs[:N_CORES])
        n = int(N_CORES * workload.limit / found[0])
        if n > N_CORES and len(pairs) > N_CORES:
            found = timed(pairs[:n])
    result = workload.result(*found)
    result["seconds"] *= step
    result["measured"] += f", every {step}th row" if step > 1 else ""
    return result


def on_cpu(workload):
    """Time sknonlin on the CPU, of many matrices on a tenth."""
    stacks = [stack.cpu() for stack in workload.stacks]
    here = Workload(stacks, workload.ranks, workload.limit, ours=workload.ours)
    return whole(nmf_path.run_sknonlin, here, 0.1 if here.n_matrices > 50 else 1.0)


def on_gpu_alone(stack, ranks):
    """Run sknonlin without sending small matrices to the processor."""
    with mock.patch.object(compiled, "MOST_SENT", 0):
        return nmf_path.run_sknonlin(stack, ranks)


METHODS = {
    OURS: lambda workload: whole(on_gpu_alone, workload),
    SENT: lambda workload: whole(nmf_path.run_sknonlin, workload),
    SKLEARN: on_all_cores,
    f"sknonlin, CPU, {torch.get_num_threads()} threads": on_cpu,
    "multiplicative updates in torch, GPU": lambda w: whole(nmf_path.run_plain_mu, w),
    "torchnmf, GPU": lambda w: pair_by_pair(nmf_path.torchnmf_factors, w),
    "nmf-torch, GPU": lambda w: pair_by_pair(nmf_path.nmf_torch_factors, w),
}


def methods_table(results):
    """Make the table of what is known so far."""
    reference = results.get(SKLEARN, {}).get("seconds")
    rows = []
    for method, found in results.items():
        if "failed" in found:
            rows.append([method, found["failed"], *[""] * 5])
            continue
        memory, seconds = found["mebibytes"], found["seconds"]
        on_gpu = method.endswith("GPU") and torch.cuda.is_available()
        rows.append(
            [
                method,
                f"{seconds:.3g}",
                found["measured"],
                f"{reference / seconds:.1f} x" if reference else "",
                f"{found['error']:.4f}",
                f"{found['against']:.4f}",
                f"{memory:,.0f}" if on_gpu else "",
            ]
        )
    head = ["method", "seconds", "measured on", "as fast as scikit-learn"]
    head += ["mean relative error", "error / ours, same pairs", "GPU memory added, MiB"]
    return table(head, rows)


def compare(workloads, show):
    """Run all methods on some workloads, by name, with a table of each."""
    done = []
    for name, workload in workloads.items():
        shapes = ", ".join(" x ".join(f"{n:,}" for n in s.shape) for s in workload.stacks)
        head = [f"### {name}", "", f"{shapes}; {len(workload.ranks)} ranks.", ""]
        results = {}
        for method, run in METHODS.items():
            try:
                results[method] = run(workload)
            except (ImportError, RuntimeError, ValueError) as error:
                traceback.print_exc()
                results[method] = {"failed": reason_of(error)}
            print(name, method, results[method], flush=True)
            show(*done, *head, methods_table(results))
        done += [*head, methods_table(results)]


def noisy_images(settings):
    """Those that the networks of `nmf_path.py` are trained on, as tensors on the device."""
    if settings.data is None:
        X, y = map(torch.from_numpy, settings.images())
    else:
        X, y = nmf_path.fashion_mnist(0, settings.data)
    n = 300 if settings.smoke else nmf_path.N_TRAIN
    return X[:n].to(settings.device), y[:n].to(settings.device)


def run_factorizations(settings, show):
    """Compare on the workloads of `nmf_path.py`, from networks trained on the device."""
    X, y = noisy_images(settings)
    with watched() as found:
        stacks = {"MLP": [nmf_path.mlp_stack(X, y)], "CNN": nmf_path.cnn_stacks(X, y)}
    print(f"both networks trained in {found['seconds']:.1f} s", flush=True)
    ranks = {"MLP": nmf_path.MLP_RANKS, "CNN": nmf_path.CNN_RANKS}
    if settings.smoke:
        stacks = {name: [A[:, ::10] for A in own] for name, own in stacks.items()}
        ranks = {name: own[:3] for name, own in ranks.items()}
    limit = 1.0 if settings.smoke else 5.0
    compare({name: Workload(stacks[name], ranks[name], limit) for name in stacks}, show)


def trained(module, X, y, n_epochs):
    """Train a module on tensors, in batches of 200."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    for _ in range(n_epochs):
        for batch in torch.randperm(len(X), device=X.device).split(200):
            optimizer.zero_grad()
            functional.cross_entropy(module(X[batch]), y[batch]).backward()
            optimizer.step()
    return module.requires_grad_(False)


def run_large_factorizations(settings, show):
    """Compare on matrices a hundred times as large, and more."""
    X, y = (torch.from_numpy(a).to(settings.device) for a in settings.images())
    torch.manual_seed(0)
    size, n, width = (20, 20, 64) if settings.smoke else (500, 2000, 1024)
    layers = [nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width)]
    mlp = nn.Sequential(*layers, nn.ReLU(), nn.Linear(width, 10)).to(settings.device)
    A = trained(mlp, X, y, 3)[:5](X)
    batches = [part for c in range(10) for part in A[y == c].split(size)[:10]]
    stack = torch.stack([part for part in batches if len(part) == size])
    layers = [nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten()]
    cnn = nn.Sequential(*layers, nn.Linear(64 * 49, 10)).to(settings.device)
    A = trained(cnn, X, y, 2)[:2](X[y == 0][:n])
    rows = A.movedim(1, -1).flatten(0, 2)[None].contiguous()
    limit = 1.0 if settings.smoke else 8.0
    ranks = nmf_path.MLP_RANKS, nmf_path.CNN_RANKS
    ranks = [own[:3] for own in ranks] if settings.smoke else ranks
    workloads = {
        "MLP, batches of one class": Workload([stack], ranks[0], limit),
        "A convolution, of one class": Workload([rows], ranks[1], limit, FEWER),
    }
    del A, X
    compare(workloads, show)


# Detectors and trainings --------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions and a way around them, with one in-place ReLU."""

    def __init__(self, n_inputs, n_outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, n_outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(n_outputs, n_outputs, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(n_outputs), nn.BatchNorm2d(n_outputs)
        self.relu = nn.ReLU(inplace=True)
        self.around = nn.Sequential()
        if stride > 1:
            self.around.append(nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False))
            self.around.append(nn.BatchNorm2d(n_outputs))

    def forward(self, x):
        """Give (n, n_outputs, height / stride, width / stride)."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(out + self.around(x))


def resnet18(width=64):
    """ResNet-18 for small grey images: it begins with a 3 x 3 convolution, unpooled."""
    layers, n_inputs = [nn.Conv2d(1, width, 3, 1, 1, bias=False)], width
    layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    for stage in range(4):
        n_outputs = width * 2**stage
        layers += [Block(n_inputs, n_outputs, 1 + (stage > 0))]
        layers += [Block(n_outputs, n_outputs, 1)]
        n_inputs = n_outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_inputs, 10)]
    return nn.Sequential(*layers)


def skorch_net(make, settings, n_epochs, **parameters):
    """Make a skorch net on the device."""
    parameters = {"batch_size": 128, "callbacks": []} | parameters
    return NeuralNetClassifier(
        make,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=n_epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        device=settings.device,
        **parameters,
    )


@contextlib.contextmanager
def watched_with_memory():
    """Watch also the peak that the process's memory has over that before."""
    with contextlib.suppress(OSError):  # Linux restarts the record of the peak here
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = nmf_path.peak_kibibytes()
    with watched() as found:
        yield found
    found["process"] = (nmf_path.peak_kibibytes() - before) / 1024


def run_detector(settings, show):
    """Time a detector around a ResNet-18, on all images."""
    X, y = settings.images()
    if settings.smoke:
        X = X[:, :, ::2, ::2].copy()
    torch.manual_seed(0)
    width = 4 if settings.smoke else 64
    net = skorch_net(resnet18, settings, 2, module__width=width).fit(X, y)
    detector = sknonlin.MemorizationDetector(FrozenEstimator(net), random_state=0)
    new = X[:10_000, :, :, ::-1].copy()
    steps = {
        "`fit`": lambda: detector.fit(X, y),
        "`score_samples`": lambda: detector.score_samples(X, y),
        "`measure`, a part of `fit`": lambda: detector.measure(X, y),
        f"`score_samples` of {len(new):,} new images": lambda: detector.score_samples(new),
    }
    done = {}
    for name, step in steps.items():
        with watched_with_memory() as found:
            step()
        done[name] = found
        print(name, found, flush=True)
        epoch = net.history[-1, "dur"]
        show(
            f"ResNet-18 of width {width}, {len(X):,} images; an epoch of training takes "
            f"{epoch:.1f} s. Estimated number of wrong labels: {detector.n_wrong_:,.0f}; "
            f"memorization score: {detector.memorization_score_:.3f}.",
            "",
            steps_table(done, epoch),
        )


def steps_table(done, epoch):
    """Make a table of steps, whose time is also given in epochs of training."""
    rows = [
        [
            name,
            f"{found['seconds']:.1f}",
            f"{found['seconds'] / epoch:.1f}",
            f"{found['process']:,.0f}",
            f"{found['mebibytes']:,.0f}",
        ]
        for name, found in done.items()
    ]
    head = ["step", "seconds", "in epochs", "process memory added, MiB"]
    return table([*head, "GPU memory added, MiB"], rows)


class Clock(Callback):
    """Notes when epochs end, after what else there is to do."""

    def on_train_begin(self, net, **kwargs):
        """Forget an earlier training."""
        self.ends = []

    def on_epoch_end(self, net, **kwargs):
        """Note the time."""
        synchronize()
        self.ends.append(time.perf_counter())


def epoch_seconds(settings, X, y, callbacks):
    """Median seconds of an epoch with callbacks, but for the first."""
    n_epochs = 10 if len(X) < 10_000 else 3
    setting, clock = networks.Setting("fashion", "cnn"), Clock()
    torch.manual_seed(0)
    module = networks.make_network(setting)
    named = [*callbacks, ("clock", clock)]
    skorch_net(module, settings, n_epochs, batch_size=50, callbacks=named).fit(X, y)
    return statistics.median(np.diff(clock.ends))


def run_monitor(settings, show):
    """Time the epochs of a CNN with and without the monitor."""
    X, y = settings.images()
    rows = []
    for n in sorted({min(2000, len(X)), len(X)}):
        plain = epoch_seconds(settings, X[:n], y[:n], [])
        with_it = epoch_seconds(settings, X[:n], y[:n], [("score", NonlinearityScoring())])
        share = f"{with_it / plain - 1:.1%}"
        rows.append([f"{n:,}", f"{plain:.3f}", f"{with_it:.3f}", share])
        head = ["images", "epoch, s", "with `NonlinearityScoring()`, s", "added"]
        show("The CNN of `networks.py`, in batches of 50.", "", table(head, rows))


# Where the time goes ------------------------------------------------------------------


def device_time(event):
    """Microseconds that an operation's own kernels took."""
    return getattr(event, "self_device_time_total", 0)


def profiled(stack, ranks):
    """Median seconds of a factorization, and what torch's profiler says of one."""
    times = []
    for _ in range(4):
        with watched() as found:
            on_gpu_alone(stack, ranks)
        times.append(found["seconds"])
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        on_gpu_alone(stack, ranks)
        synchronize()
    return statistics.median(times[1:]), profiler.key_averages()


def run_profile(settings, show):
    """Count the kernels of one run on the MLP's workload, and find the longest ones."""
    stack = nmf_path.mlp_stack(*noisy_images(settings))
    ranks = nmf_path.MLP_RANKS[: 3 if settings.smoke else None]
    seconds, events = profiled(stack, ranks)
    on_gpu = [e for e in events if e.device_type == DeviceType.CUDA]
    kernels = sum(e.count for e in on_gpu if not e.key.startswith(("Memcpy", "Memset")))
    copies = sum(e.count for e in on_gpu if e.key.startswith("Memcpy"))
    busy = sum(map(device_time, on_gpu)) / 1e6
    calls = [e for e in events if e.device_type == DeviceType.CPU]
    shape = " x ".join(map(str, stack.shape))
    show(
        f"{shape}, {len(ranks)} ranks: {seconds:.3f} s, the median of 3. There are "
        f"{kernels:,} kernels and {copies:,} copies; the GPU is busy for {busy:.3f} s, "
        f"{busy / seconds:.0%} of the time. From one kernel to the next there are "
        f"{1e6 * seconds / max(1, kernels):.1f} µs.",
        "",
        "The ten operations with the most time on the device:",
        "",
        operations_table([e for e in calls if e.key.startswith("aten::")], 10),
        "The calls of CUDA's own interface:",
        "",
        operations_table([e for e in calls if e.key.startswith("cu")], 6),
    )


def operations_table(events, n):
    """Table of the operations with the most time."""
    cpu = not any(map(device_time, events))
    events = sorted(
        events, key=lambda e: -(e.self_cpu_time_total if cpu else device_time(e))
    )
    rows = [
        [
            f"`{e.key}`",
            f"{e.count:,}",
            f"{device_time(e) / 1e3:.1f}",
            f"{e.self_cpu_time_total / 1e3:.1f}",
        ]
        for e in events[:n]
    ]
    return table(["operation", "calls", "GPU, ms", "CPU, ms (profiled)"], rows)


# The page -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    title: str
    run: object
    seconds: int  # at most


PARTS = {
    "compiled": Part("What is compiled first, once on a machine", run_compilation, 60),
    "tests": Part("Tests", run_tests, 100),
    "nmf": Part("`nmf_path` against its peers", run_factorizations, 80),
    "large": Part("The same on larger matrices", run_large_factorizations, 110),
    "profile": Part("Where the time of `nmf_path` goes", run_profile, 40),
    "detector": Part("A detector on all images", run_detector, 120),
    "monitor": Part("What the monitor costs", run_monitor, 70),
}


def run_part(name, settings, path):
    """Run a part in this process; its text is in a file, as far as it has come."""

    def show(*lines):
        path.write_text("\n".join(lines) + "\n")

    PARTS[name].run(settings, show)


def section_of(name, options, seconds):
    """Run a part in a process that ends after some seconds, and give its text."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "section.md"
        command = [sys.executable, __file__, "--part", name, "--section", path, *options]
        places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, places))}
        environment |= {} if name == "tests" else {"PYTHONWARNINGS": "ignore"}
        process = subprocess.Popen(
            command, env=os.environ | environment, start_new_session=True
        )
        reason = ""
        try:
            if process.wait(seconds):
                reason = f"failed: exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with its workers
            process.wait()
            reason = f"Stopped after {seconds:.0f} s; the rest was not measured."
        text = path.read_text() if path.exists() else ""
    return f"{text}\n{reason}\n" if reason else text


def header(settings):
    """Say what was measured, and on what."""
    versions = [f"sknonlin {sknonlin.__version__}"]
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    images = "Fashion-MNIST" if settings.data else "random, of the size of Fashion-MNIST's"
    return "\n".join(
        [
            "# On a GPU",
            "",
            f"Written by `gpu.py{' --smoke' * settings.smoke}`, which says what it does.",
            "",
            f"- Hardware: {nmf_path.hardware()}"
            + (
                ""
                if torch.cuda.is_available()
                else "; no CUDA device: what is said of the GPU is of the CPU"
            ),
            f"- Python {platform.python_version()}, {', '.join(versions)}",
            f"- Images: {images}",
            "- Data are on the GPU before a method's time begins. Seconds are medians of "
            "the runs after a warm-up. Slow methods ran on some pairs of a matrix and a "
            "rank, drawn evenly, and their seconds are scaled up to all pairs. Memory is "
            "what a method adds to the memory of the data.",
        ]
    )


def main():
    """Run all parts, and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, help="folder of Fashion-MNIST")
    parser.add_argument("--write", type=pathlib.Path, help="the page to write")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--section", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.data is None and FASHION_MNIST_FOLDER.is_dir():
        arguments.data = FASHION_MNIST_FOLDER
    settings = Settings(arguments.data, arguments.smoke)
    if arguments.part:
        run_part(arguments.part, settings, arguments.section)
        return
    if not (torch.cuda.is_available() or arguments.smoke):
        parser.error("there is no CUDA device; --smoke tries the script on the CPU")
    options = ["--data", settings.data] if settings.data else []
    options += ["--smoke"] if settings.smoke else []
    start = time.perf_counter()
    page = header(settings)
    for name in arguments.only:
        begin, part = time.perf_counter(), PARTS[name]
        seconds = max(5, min(part.seconds, TOTAL - (begin - start)))
        text = section_of(name, options, seconds)
        spent = time.perf_counter() - begin
        page += f"\n\n## {part.title}\n\n{text.strip()}\n\nThis part took {spent:.0f} s."
        if arguments.write:
            arguments.write.write_text(with_answer(page + "\n", arguments.write))
        print(f"\n{text}\n{part.title}: {spent:.0f} s", flush=True)
    print(f"\n{page}\n\nAll parts: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
