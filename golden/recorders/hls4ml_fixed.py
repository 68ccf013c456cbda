"""ap_fixed arithmetic in exact integers: what Xilinx's ap_types headers of hls4ml 1.3.0 compute, written anew.

A type is (width, integer bits, signed, quantization, overflow); a value is an integer code at `width - integer` bits
behind the point, so it stands for code * 2**-(width - integer). Sources (hls4ml 1.3.0 wheel):
`templates/vivado/ap_types/ap_fixed_base.h` (operator=, quantization_adjust, overflow_adjust).
"""

import re
from collections import namedtuple

import numpy as np

QUANTIZATION = ["RND", "RND_ZERO", "RND_MIN_INF", "RND_INF", "RND_CONV", "TRN", "TRN_ZERO"]
OVERFLOW = ["SAT", "SAT_ZERO", "SAT_SYM", "WRAP", "WRAP_SM"]


class Type(namedtuple("Type", "width integer signed q o", defaults=("TRN", "WRAP"))):
    @property
    def frac(self):
        return self.width - self.integer

    @property
    def range(self):
        return (-(1 << self.width - 1), (1 << self.width - 1) - 1) if self.signed else (0, (1 << self.width) - 1)


def parse(text):
    """fixed<W,I,Q,O,N>, ufixed<...>, int<W>, uint<W>"""
    kind, args = re.fullmatch(r"(u?(?:fixed|int))<(.*)>", text).groups()
    args = args.split(",")
    if kind.endswith("int"):
        return Type(int(args[0]), int(args[0]), kind[0] != "u")
    assert args[4:] in ([], ["0"]), "saturation bits are not modelled"
    return Type(int(args[0]), int(args[1]), kind[0] != "u", *args[2:4])


def shift_right(x, bits, q):
    """x / 2**bits, rounded; every mode."""
    down = x >> bits
    rest = x - (down << bits)  # 0 .. 2**bits - 1
    half = 1 << (bits - 1)
    up = {
        "TRN": lambda: np.zeros_like(rest, bool),
        "TRN_ZERO": lambda: (x < 0) & (rest != 0),
        "RND": lambda: rest >= half,
        "RND_MIN_INF": lambda: rest > half,
        "RND_INF": lambda: (rest > half) | (rest == half) & (x >= 0),
        "RND_ZERO": lambda: (rest > half) | (rest == half) & (x < 0),
        "RND_CONV": lambda: (rest > half) | (rest == half) & (down & 1 == 1),
    }[q]()
    return down + up


def wrap(x, t):
    x = x & ((1 << t.width) - 1)
    return x - ((x >> t.width - 1) << t.width) if t.signed else x


def fit(x, t, before=None):
    """Overflow of the rounded integer `x`. `before`: the source's bits above t's sign bit, unrounded (WRAP_SM)."""
    lo, hi = t.range
    if t.o == "WRAP":
        return wrap(x, t)
    if t.o == "SAT":
        return np.clip(x, lo, hi)
    if t.o == "SAT_SYM":
        return np.clip(x, max(-hi, lo) if t.width > 1 else lo, hi)  # one bit keeps -1
    if t.o == "SAT_ZERO":
        return np.where((x < lo) | (x > hi), 0, x)
    # WRAP_SM: the sign becomes the first bit that is cut off, taken before rounding; where that differs from the
    # wrapped sign, all other bits are inverted.
    assert t.signed
    w = wrap(x, t)
    lost = before & 1
    flipped = ~w
    flipped = np.where(lost == 1, flipped | -(1 << t.width - 1), flipped & ((1 << t.width - 1) - 1))
    return np.where(((x < lo) | (x > hi)) & (lost != (w < 0)), flipped, w)


def cast(x, frac, t):
    """Integer codes with `frac` bits behind the point into type t."""
    d = frac - t.frac
    x = np.asarray(x)
    if d <= 0:
        y = x << -d
        return fit(y, t, y >> t.width)
    return fit(shift_right(x, d, t.q), t, (x >> d) >> t.width)


def from_float(v, t):
    """Finite floats into type t, exactly (Python integers)."""
    out = []
    for f in np.asarray(v, np.float64).ravel():
        n, d = float(f).as_integer_ratio()
        out.append(int(cast(np.array([n], object), d.bit_length() - 1, t)[0]))
    return np.array(out, object).reshape(np.shape(v))
