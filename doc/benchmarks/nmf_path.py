"""Time, error and memory of `nmf_path` against its peers, on real activations.

    python doc/benchmarks/nmf_path.py            # writes nmf_path.md beside this file
    python doc/benchmarks/nmf_path.py --confirm  # writes nmf_path_confirmed.md

It trains an MLP and a CNN on 2,000 images of Fashion-MNIST, 40 % of the labels drawn at
random, until they fit every label, and factorizes

* the second ReLU layer of the MLP: 10 classes x 50 samples x 512 units, 14 ranks;
* the three convolutions of the CNN on 20 images of one class: 15,680 x 16, 3,920 x 32
  and 980 x 64, 10 ranks.

Every method runs in a process of its own, in turn over several rounds, with a warm-up
that is not counted; the table has medians over the rounds. About 25 minutes.

RcppML is asked through R: install Debian's `r-cran-rcppml`. Peers that are not there are
left out. scikit-learn takes its threads from BLAS, as `sknonlin` those of torch.

The solver was chosen on these networks. `--confirm` compares it with scikit-learn alone
on networks of 2,000 other images (rows 10,000 to 11,999) and another class of the CNN.
"""

import argparse
import gzip
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import joblib
import numpy as np
import torch
from sklearn.decomposition import NMF
from tables import with_answer
from threadpoolctl import threadpool_limits
from torch import nn

from sknonlin import nmf_path

DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
MLP_RANKS = [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 32, 40]
CNN_RANKS = [1, 2, 3, 4, 5, 6, 8, 10, 12, 14]
N_TRAIN, LABEL_NOISE = 2000, 0.4
SLOW = 10  # seconds from which a peer is run in the first round only
PACKAGES = ("sknonlin", "torch", "scikit-learn", "numpy", "numba", "joblib")
PEERS = ("torchnmf", "nmf-torch", "nmf-rs", "scm2cpp-learn")
R_SCRIPT = pathlib.Path(__file__).with_name("nmf_path_rcppml.R")


# The networks ---------------------------------------------------------------------


def fashion_mnist(first_row, folder=DATA):
    """Images in [0, 1] and labels of some training rows, a share of them redrawn."""
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    rng = np.random.default_rng(0)
    chosen = slice(first_row, first_row + N_TRAIN)
    X, y = images[chosen] / np.float32(255), labels[chosen].copy()
    redrawn = rng.random(N_TRAIN) < LABEL_NOISE
    y[redrawn] = rng.integers(0, 10, redrawn.sum())
    return torch.from_numpy(X), torch.from_numpy(y)


def make_mlp():
    layers = [nn.Flatten()]
    for n_inputs in (784, 512, 512, 512, 512):
        layers += [nn.Linear(n_inputs, 512), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(512, 10))


def make_cnn():
    layers, n_inputs = [], 1
    for n_outputs in (16, 32, 64):
        layers += [nn.Conv2d(n_inputs, n_outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        n_inputs = n_outputs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 9, 10))


def activations(make_network, X, y):
    """ReLU outputs of a network trained until it fits all labels, on their device."""
    torch.manual_seed(0)
    network = make_network().to(X.device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(400):
        for batch in torch.randperm(len(X)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(X[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            if (network(X).argmax(1) == y).all():
                break
    outputs = []
    with torch.no_grad():
        for module in network:
            X = module(X)
            if isinstance(module, nn.ReLU):
                outputs.append(X)
    return outputs


def mlp_stack(X, y):
    """Activations of the MLP's second ReLU layer, 50 samples of every class."""
    A = activations(make_mlp, X, y)[1]
    n = min(50, int(y.bincount().min()))
    return torch.stack([A[y == c][:n] for c in range(10)])


def cnn_stacks(X, y, label=0):
    """Activations of the convolutions on 20 images of one class."""
    return [
        A[y == label][:20].movedim(1, -1).flatten(0, 2)[None]
        for A in activations(make_cnn, X, y)
    ]


def make_workloads(path, first_row=0, label=0):
    """Save the activation matrices of both workloads as stacks."""
    X, y = fashion_mnist(first_row)
    stacks = [mlp_stack(X, y), *cnn_stacks(X, y, label)]
    names = [name for own, _ in WORKLOADS.values() for name in own]
    np.savez(path, **{n: stack.numpy() for n, stack in zip(names, stacks, strict=True)})


# The methods: a stack and ranks in, factors for every rank and matrix out --------------


def run_sknonlin(stack, ranks, solver="auto"):
    return nmf_path(stack, ranks, solver=solver, random_state=0).errors


def sklearn_error(X, rank):
    model = NMF(rank).fit(X)
    return model.reconstruction_err_ / np.linalg.norm(X)


def run_sklearn(stack, ranks):
    return [[sklearn_error(X, rank) for rank in ranks] for X in stack]


def run_sklearn_joblib(stack, ranks):
    tasks = [joblib.delayed(sklearn_error)(X, rank) for X in stack for rank in ranks[::-1]]
    return joblib.Parallel(n_jobs=2)(tasks)


def run_sklearn_alone(stack, ranks):
    with threadpool_limits(1):
        return run_sklearn(stack, ranks)


def run_sknonlin_alone(stack, ranks):
    torch.set_num_threads(1)
    return run_sknonlin(stack, ranks)


def relative_error(X, W, H):
    return float(np.linalg.norm(X - W @ H) / np.linalg.norm(X))


def torchnmf_factors(X, rank):
    """Factors of a tensor, on its device."""
    from torchnmf.nmf import NMF

    torch.manual_seed(0)
    model = NMF(X.shape, rank).to(X.device)
    model.fit(X, beta=2)
    return model.H.detach(), model.W.detach().T


def run_torchnmf(stack, ranks):
    errors = []
    for X in stack:
        for rank in ranks:
            W, H = torchnmf_factors(torch.from_numpy(X), rank)
            errors.append(relative_error(X, W.numpy(), H.numpy()))
    return errors


def nmf_torch_factors(X, rank):
    """Factors of an array or a tensor, on its device, as arrays."""
    from nmf import run_nmf

    on_gpu = isinstance(X, torch.Tensor) and X.is_cuda
    return run_nmf(X, rank, random_state=0, use_gpu=on_gpu)[:2]


def run_nmf_torch(stack, ranks):
    return [relative_error(X, *nmf_torch_factors(X, rank)) for X in stack for rank in ranks]


def run_plain_mu(stack, ranks, n_iter=200):
    """Multiplicative updates on the whole stack, each rank from a random start."""
    X = torch.as_tensor(stack)
    errors = []
    for rank in ranks:
        torch.manual_seed(0)
        scale = (X.mean((1, 2), keepdim=True) / rank).sqrt()
        W = torch.rand(*X.shape[:2], rank, device=X.device) * scale
        H = torch.rand(len(X), rank, X.shape[2], device=X.device) * scale
        for _ in range(n_iter):
            W *= (X @ H.mT) / (W @ (H @ H.mT)).clamp_(min=1e-12)
            H *= (W.mT @ X) / ((W.mT @ W) @ H).clamp_(min=1e-12)
        errors.append((X - W @ H).flatten(1).norm(dim=1) / X.flatten(1).norm(dim=1))
    return torch.stack(errors).cpu().numpy()


def run_nmf_rs(stack, ranks):
    from nmf_rs import nmf

    results = []
    for X in stack:
        V = X.astype(float)
        models = [
            nmf(V, k, "ehals", seed=0, max_iter=200, stop="stationary") for k in ranks
        ]
        results += [relative_error(V, model.W, model.H) for model in models]
    return results


def run_scm2cpp(stack, ranks):
    from scm2cpp_learn import CDNMF

    errors = []
    for X in stack:
        V = X.astype(float)
        for rank in ranks:
            model = CDNMF(rank, random_state=0).fit(V)
            errors.append(model.reconstruction_err_ / np.linalg.norm(V))
    return errors


class TimedErrors(list):
    """Errors, with the seconds that another program says it took."""

    seconds = 0.0


def run_rcppml(stack, ranks):
    errors = TimedErrors()
    for X in stack:
        with tempfile.NamedTemporaryFile() as file:
            file.write(X.astype(float).tobytes())
            file.flush()
            sizes, own = [*map(str, X.shape)], ",".join(map(str, ranks))
            command = ["Rscript", R_SCRIPT, file.name, *sizes, own, "1"]
            output = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds, *own_errors = map(float, output.stdout.split()[-1 - len(ranks) :])
        errors.seconds += seconds
        errors += own_errors
    return errors


METHODS = {
    "scikit-learn NMF": run_sklearn,
    "scikit-learn NMF, one thread": run_sklearn_alone,
    "scikit-learn NMF, joblib 2": run_sklearn_joblib,
    "sknonlin": run_sknonlin,
    "sknonlin, one thread": run_sknonlin_alone,
    "sknonlin, solver='mu'": lambda stack, ranks: run_sknonlin(stack, ranks, "mu"),
    "nmf-torch": run_nmf_torch,
    "torchnmf": run_torchnmf,
    "nmf-rs, ehals": run_nmf_rs,
    "scm2cpp-learn CDNMF": run_scm2cpp,
    "RcppML, one thread": run_rcppml,
    "plain torch MU, stacked": run_plain_mu,
}
WORKLOADS = {"MLP": (("mlp",), MLP_RANKS), "CNN": (("conv1", "conv2", "conv3"), CNN_RANKS)}


def peak_kibibytes():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def measure(method, workload, path):
    """One counted run of one method, as a dictionary."""
    warnings.simplefilter("ignore")
    matrices = np.load(path)
    names, ranks = WORKLOADS[workload]
    run = METHODS[method]
    stacks = [matrices[name] for name in names]
    rng = np.random.default_rng(0)
    for shape in ((1, 60, 40), (1, 4100, 4)):  # the second one is learned from a sample
        run(rng.random(shape, dtype=np.float32), [1, 2])
    # Linux restarts the record of the peak here.
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = peak_kibibytes()
    start = time.perf_counter()
    errors = [run(stack, ranks) for stack in stacks]
    seconds = time.perf_counter() - start
    if isinstance(errors[0], TimedErrors):
        seconds = sum(part.seconds for part in errors)
    after = peak_kibibytes()
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "seconds": seconds,
        "error": float(np.mean([np.mean(part) for part in errors])),
        "mebibytes": (after - before + workers) / 1024,
    }


def measure_in_process(method, workload, path):
    command = [sys.executable, __file__, "--data", path, "--run", method, workload]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


# The tables -----------------------------------------------------------------------


def median_ratio(numerators, denominators):
    """Median ratio over the rounds that both have."""
    pairs = zip(numerators, denominators, strict=False)
    return statistics.median(a / b for a, b in pairs)


def comparison(path, n_rounds, methods):
    lines = []
    for workload in WORKLOADS:
        runs = {method: [] for method in methods}
        for i in range(n_rounds):
            for method, results in runs.items():
                slow = results and results[0]["seconds"] > SLOW
                if slow and method != "scikit-learn NMF":
                    continue
                results.append(measure_in_process(method, workload, path))
                print(workload, i, method, results[-1], flush=True)
        reference = [run["seconds"] for run in runs["scikit-learn NMF"]]
        reference_error = runs["scikit-learn NMF"][0]["error"]
        ours = [run["seconds"] for run in runs["sknonlin"]]
        lines += [
            f"\n## {workload}\n",
            "| method | seconds | as fast as scikit-learn | sknonlin is as fast "
            "| mean relative error | error / scikit-learn's | peak memory, MiB |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for method, results in runs.items():
            seconds = [run["seconds"] for run in results]
            ratio = median_ratio(reference, seconds)
            behind = median_ratio(seconds, ours)
            memory = statistics.median(run["mebibytes"] for run in results)
            error = statistics.median(run["error"] for run in results)
            lines.append(
                f"| {method} | {statistics.median(seconds):.2f} | {ratio:.1f} x "
                f"| {behind:.1f} x | {error:.4f} | {error / reference_error:.4f} "
                f"| {memory:.0f} |"
            )
    return lines


def scaling():
    """Time against one size at a time, and the exponent of a power law."""
    rng = np.random.default_rng(0)
    base = {"matrices": 10, "rows": 50, "features": 512, "rank": 16}
    grids = {
        "rows": [50, 100, 200, 400, 800, 1600, 3200],
        "features": [128, 256, 512, 1024, 2048, 4096],
        "rank": [4, 8, 16, 32, 48],
        "matrices": [1, 4, 16, 64, 256],
    }
    grids["rows (sampled)"] = [8000, 16000, 32000, 64000, 128000]
    lines = ["\n## How time grows\n", "| size | values | seconds | exponent |"]
    lines.append("| --- | --- | --- | ---: |")
    for name, values in grids.items():
        seconds = []
        for value in values:
            size = dict(base)
            size[name.split()[0]] = value
            if "sampled" in name:
                size.update(matrices=1, features=64)
            X = rng.normal(size=(size["matrices"], size["rows"], 8)) @ rng.normal(
                size=(size["matrices"], 8, size["features"])
            )
            X = np.maximum(X, 0).astype(np.float32)
            times = []
            for _ in range(4):
                start = time.perf_counter()
                # A fixed number of alternations: the time of the work, not of the data.
                nmf_path(X, [size["rank"]], max_iter=20, tol=0, random_state=0)
                times.append(time.perf_counter() - start)
            seconds.append(statistics.median(times[1:]))
        exponent = np.polyfit(np.log(values), np.log(seconds), 1)[0]
        last = np.log(seconds[-1] / seconds[-2]) / np.log(values[-1] / values[-2])
        lines.append(
            f"| {name} | {', '.join(f'{value:,}' for value in values)} "
            f"| {', '.join(f'{second:.3f}' for second in seconds)} "
            f"| {exponent:.2f} (last step {last:.2f}) |"
        )
        print(lines[-1], flush=True)
    lines.append(
        "\nEach row varies one size of 10 matrices of 50 x 512 at rank 16 (sampled: one "
        "matrix of 64 features), with 20 alternations whatever the error."
    )
    return lines


def there(method):
    """Whether a peer is installed."""
    try:
        if method.startswith("RcppML"):
            return shutil.which("Rscript") is not None and not subprocess.call(
                ["Rscript", "-e", "library(RcppML)"], stderr=subprocess.DEVNULL
            )
        package = method.split(",")[0].split()[0]
        return package not in PEERS or importlib.metadata.version(package) is not None
    except importlib.metadata.PackageNotFoundError:
        return False


def beside_others(path, n_rounds=5):
    """Time of the stack beside as many busy processes as there are cores, against alone."""
    stack, seconds = np.load(path)["mlp"], {"alone": [], "busy": []}
    run_sknonlin(stack, MLP_RANKS)
    for _ in range(n_rounds):
        for name, n_others in (("alone", 0), ("busy", os.cpu_count())):
            command = [sys.executable, "-c", "while True: pass"]
            others = [subprocess.Popen(command) for _ in range(n_others)]
            try:
                start = time.perf_counter()
                run_sknonlin(stack, MLP_RANKS)
                seconds[name].append(time.perf_counter() - start)
            finally:
                for process in others:
                    process.kill()
                    process.wait()
    ratio = median_ratio(seconds["busy"], seconds["alone"])
    return [
        f"\nBeside {os.cpu_count()} processes that keep all cores busy, sknonlin takes "
        f"{ratio:.1f} times as long on the stack of the MLP."
    ]


def hardware():
    model = platform.processor() or platform.machine()
    try:
        cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
        model = next(line for line in cpuinfo.splitlines() if "model name" in line)
        model = model.split(":")[1].strip()
    except (OSError, StopIteration):
        pass
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {gpu}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", help="file that keeps the activations between runs")
    parser.add_argument("--confirm", action="store_true")
    parser.add_argument("--run", nargs=2, metavar=("METHOD", "WORKLOAD"))
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(measure(*arguments.run, arguments.data)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.data or os.path.join(folder, "activations.npz")
        if not os.path.exists(path):
            make_workloads(path, *((10_000, 3) if arguments.confirm else ()))
        methods = ["scikit-learn NMF", "sknonlin"]
        if not arguments.confirm:
            methods = [method for method in METHODS if there(method)]
        lines = comparison(path, arguments.rounds, methods)
        if not arguments.confirm:
            lines += beside_others(path)
    packages = [*PACKAGES, *(name for name in PEERS if there(name))]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    header = [
        "# `nmf_path` against its peers\n",
        "Written by `python doc/benchmarks/nmf_path.py"
        f"{' --confirm' * arguments.confirm}`, which says what is measured.\n",
        f"- Hardware: {hardware()}",
        f"- Python {platform.python_version()}, {versions}",
        f"- Medians of {arguments.rounds} rounds; the ratios are medians of the ratios "
        f"within a round. Methods over {SLOW} s ran in the first round alone.",
        "- Peak memory is what the run adds to the process (and its workers), over imports "
        "and data.",
    ]
    if not arguments.confirm:
        lines += scaling()
    text = "\n".join(header + lines) + "\n"
    name = "nmf_path_confirmed.md" if arguments.confirm else "nmf_path.md"
    path = pathlib.Path(__file__).with_name(name)
    path.write_text(with_answer(text, path))
    print(text)


if __name__ == "__main__":
    main()
