"""The digits that every toolchain's network sees: training, calibration, the recorded samples. Needs no torch."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

FLOAT = Path(__file__).parents[1] / "toolchains" / "float"
CALIBRATION, SAMPLES = 128, 8


def digits():
    """(train images, train labels, test images, test labels); images (N,1,8,8) f32, multiples of 1/16."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    xa, xb, ya, yb = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    return xa, ya, xb, yb


def calibration():
    """What post-training quantization sees: training images, never the recorded ones."""
    return digits()[0][:CALIBRATION]


def samples():
    """The recorded inputs: the first test images."""
    return digits()[2][:SAMPLES]


def weights():
    """The trained parameters under the names of the PyTorch state dict, in PyTorch's layouts."""
    return dict(np.load(FLOAT / "weights.npz"))
