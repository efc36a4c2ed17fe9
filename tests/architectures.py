"""Networks of the tests: real architectures, written out, and nets around small ones."""

import torch
import torch.nn.functional as F
from skorch import NeuralNetClassifier
from torch import nn


def seeded(make, *args, seed=0, **kwargs):
    """Make something random without touching torch's random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make(*args, **kwargs)


class ResidualBlock(nn.Module):
    """One in-place ReLU, used twice, as in torchvision's BasicBlock."""

    def __init__(self, n_inputs, n_outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(n_inputs, n_outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_outputs, n_outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_outputs)
        self.downsample = None
        if stride != 1 or n_inputs != n_outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False),
                nn.BatchNorm2d(n_outputs),
            )

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    n_relus = 5

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        )
        self.layer1 = ResidualBlock(4, 4)
        self.layer2 = ResidualBlock(4, 8, stride=2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class VGG(nn.Module):
    n_relus = 4

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(32, 16),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(16, 16),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(16, 3),
        )

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


class AudioCNN(nn.Module):
    """1-D convolutions over (n, 64) waveforms, with ReLUs of all spellings."""

    n_relus = 5

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(1, 4, 5, stride=2)
        self.conv2 = nn.Conv1d(4, 6, 3)
        self.conv3 = nn.Conv1d(6, 6, 3)
        self.fc1 = nn.Linear(6, 8)
        self.fc2 = nn.Linear(8, 3)
        self.relu6 = nn.ReLU6()

    def forward(self, x):
        x = F.relu(self.conv1(x[:, None]))
        x = torch.relu(self.conv2(x))
        x = self.conv3(x).relu_()
        x = self.relu6(self.fc1(x.mean(2)))
        return self.fc2(x).clamp(min=0)


class Transformer(nn.Module):
    """An encoder over (n, 7, 4) sequences, which may have the steps first inside."""

    n_relus = 2

    def __init__(self, batch_first=True):
        super().__init__()
        self.batch_first = batch_first
        self.embed = nn.Linear(4, 8)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first),
            2,
            enable_nested_tensor=False,
        )
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x)
        x = self.encoder(x if self.batch_first else x.transpose(0, 1))
        return self.head(x.mean(1 if self.batch_first else 0))


class Undecided(nn.Module):
    """Chooses its way, and how often it loops, by the data."""

    n_relus = 4

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.loop = nn.Linear(6, 6)
        self.other = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        h = torch.relu(self.first(x))
        for _ in range(2 if x.mean() > 0 else 1):
            h = torch.relu(self.loop(h))
        if float(x.mean()) > -100:
            h = torch.relu(self.other(h)) + h
        return self.head(h)


class TwoInputs(nn.Module):
    """Takes keyword arguments, and returns a tuple."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 8), nn.Linear(4, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, left, right):
        hidden = torch.relu(self.left(left) + self.right(right))
        return self.head(hidden), hidden


def mlp(n_inputs=4, width=8, n_classes=3, activation=nn.ReLU):
    return nn.Sequential(
        nn.Linear(n_inputs, width),
        activation(),
        nn.Linear(width, width),
        activation(),
        nn.Linear(width, n_classes),
    )


class DropoutMlp(nn.Module):
    """Of 64 inputs and 10 outputs, with dropout and ReLUs that are calls."""

    def __init__(self, n_hidden=32, output=None):
        super().__init__()
        self.first = nn.Linear(64, n_hidden)
        self.second = nn.Linear(n_hidden, n_hidden)
        self.last = nn.Linear(n_hidden, 10)
        self.drop = nn.Dropout(0.2)
        self.output = output

    def forward(self, X):
        X = self.drop(torch.relu(self.first(X)))
        X = self.last(torch.relu(self.second(X)))
        return X if self.output is None else self.output(X)


def make_net(*callbacks, module=DropoutMlp, kind=NeuralNetClassifier, **settings):
    """Make a skorch net of digits with callbacks."""
    settings = {
        "max_epochs": 3,
        "lr": 0.003,
        "optimizer": torch.optim.Adam,
        "criterion": nn.CrossEntropyLoss,
        "train_split": None,
        "verbose": 0,
    } | settings
    return kind(module, callbacks=list(callbacks), **settings)


def skorch_net(module=mlp, kind=NeuralNetClassifier, **settings):
    """Make a skorch net that learns the digits in a few epochs."""
    settings = {
        "module__n_inputs": 64,
        "module__width": 32,
        "module__n_classes": 10,
        "optimizer": torch.optim.Adam,
        "lr": 0.01,
        "max_epochs": 8,
        "batch_size": 40,
        "train_split": None,
        "verbose": 0,
    } | settings
    if kind is NeuralNetClassifier:
        settings["criterion"] = nn.CrossEntropyLoss
    return kind(module, **settings)


#: Architecture and the shape of a sample.
ARCHITECTURES = {
    "resnet": (ResNet, (1, 8, 8)),
    "vgg": (VGG, (1, 8, 8)),
    "audio": (AudioCNN, (64,)),
    "transformer": (Transformer, (7, 4)),
    "undecided": (Undecided, (4,)),
    "mlp": (mlp, (4,)),
}
