"""A million values from HiSilicon's GFPQ quantizer at each width, in three modes; only checksums are kept.

`nnie_gfpq.py` calls `record`. The check of the rules and of wrong neighbours on the same values needs numpy:

    python3 golden/recorders/nnie_gfpq_million.py nnieqat-wheel golden/nnie-gfpq

The values come from a formula that golden/nnie-gfpq/README.md states in full.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

from nnie_gfpq import APPLY_ONLY, INIT, UPDATE, WIDTHS, Library, Param, floor2

BLOCKS, SIZE, CHAIN, DONOR = 64, 15625, 8, 5
ONE, MASK = 1 << 23, (1 << 64) - 1


def numbers(seed, count):
    """splitmix64."""
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = (seed ^ seed >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        yield z ^ z >> 31


def table(steps):
    """floor(2^(23 + j / 2S)) for j below 2S, in exact integers: the mantissas of levels and of rounding boundaries."""
    return [floor2(j, 2 * steps) - (127 << 23) + ONE for j in range(2 * steps)]


def block(bits, b, mantissas):
    """Bit patterns of block b; the first number is the largest."""
    steps = WIDTHS[bits][0]
    octave = b * 37 % 91 - 30
    top = octave + 127 << 23
    near_zero = 7 if bits == 8 else 10
    out = []
    for i, r in enumerate(numbers(bits << 32 | b, SIZE)):
        kind, sign, d, down, j = r >> 61, r >> 60 & 1, (r >> 56 & 3) - 1, r >> 48 & 15, (r >> 32 & 0xFFFF) % (2 * steps)
        if i == 0:
            x = top + mantissas[2 * (r % steps)] - ONE + (r >> 32 & 1)
            x = {0: top, 8: top - 1}.get(b & 15, x)
        elif kind < 4:
            down = near_zero + (down & 1) if kind == 3 else down
            x = top - (1 + down << 23) + mantissas[j] - ONE + d
        elif kind < 7:
            x = top - (1 + (down & 1 if kind == 6 else down) << 23) + (r & ONE - 1)
        else:
            x = (r & 0x7FFFFFFF) % top
        if b & 3 == 3:
            sign = 0
        elif b & 7 == 5:
            sign = 1
        out.append(sign << 31 | x)
    return out


def sha256(patterns):
    return hashlib.sha256(struct.pack(f"<{len(patterns)}I", *patterns)).hexdigest()


def run(library, keep=None):
    rows = []
    for bits, (steps, _, _) in WIDTHS.items():
        mantissas = table(steps)
        xs = [block(bits, b, mantissas) for b in range(BLOCKS)]
        for b, x in enumerate(xs):
            if b % CHAIN == 0:
                chain = Param()
            other = Param()
            library.call(other, INIT, bits, xs[(b + DONOR) % BLOCKS])
            row = {"bits": bits, "block": b, "x": sha256(x)}
            for name, param, mode in ("init", Param(), INIT), ("update", chain, UPDATE), ("apply", other, APPLY_ONLY):
                z, y = library.call(param, mode, bits, x)
                row[f"{name}_z"], row[name] = z, sha256(y)
                if keep is not None:
                    keep.append((bits, b, name, z, x, y))
            rows.append(row)
    return rows


def record(library, folder, source):
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in run(library))
    (folder / "million.json").write_text(f'{{"source":{json.dumps(source)},"blocks":[\n{lines}\n]}}\n')


# ---------------------------------------------------------------- check, with numpy

def check(library, folder):
    import numpy as np
    kept = []
    rows = run(library, kept)
    assert json.loads((folder / "million.json").read_text())["blocks"] == rows, "million.json is another recording"
    for bits, (steps, codes, clamp) in WIDTHS.items():
        exact, close = table(steps), [2 ** (23 + j / (2 * steps)) for j in range(2 * steps)]
        apart = min(abs(v - round(v)) for j, v in enumerate(close) if j)
        print(f"{bits} bits: 2^(23 + j / {2 * steps}) in f64, floored, equals the table:", [int(v) for v in close] == exact,
              f"; nearest to a whole number (j > 0): {apart:.2e}")

    def z_of(x, bits, how="floor"):
        steps, codes, clamp = WIDTHS[bits]
        top = np.abs(x).max()
        v = steps * (float(np.log2(top)) if how == "f32" else np.log2(float(top)))
        v = {"floor": np.floor, "f32": np.floor, "round": np.rint, "epsilon": lambda v: np.floor(v + 1e-6),
             "ceiling": lambda v: np.ceil(v) - 1}[how](v)
        return int(np.clip(v - codes, -clamp, clamp))

    def apply(x, z, bits, log="f64", zero="le", negative=1):
        steps, codes, _ = WIDTHS[bits]
        size = np.abs(x).astype(np.float64)
        with np.errstate(divide="ignore"):
            logs = np.log2(np.abs(x)).astype(np.float64) if log == "f32" else np.log2(size)
        least = np.where(x < 0, negative, 0)
        side = 0 if zero == "one zone" else 1
        limit = np.where(x < 0, 2.0 ** ((z + side - steps) / steps), 2.0 ** ((z - steps) / steps))
        if zero == "f32":
            limit = limit.astype(np.float32).astype(np.float64)
        none = x == 0 if zero == "none" else size < limit if zero == "lt" else size <= limit
        code = np.clip(np.rint(steps * logs - z), least, codes)
        y = np.exp2((code + z) / steps)
        return np.where(none, 0.0, np.copysign(y, x)).astype(np.float32)

    neighbours = {"logarithm of a value in f32": dict(log="f32"), "no zero zone": dict(zero="none"),
                  "equality with the zero threshold isn't zero": dict(zero="lt"), "zero threshold rounded to f32": dict(zero="f32"),
                  "one zero zone for both signs": dict(zero="one zone"), "negative numbers have code 0": dict(negative=0)}
    z_wrong = {"round": "z rounded instead of floored", "epsilon": "z floored after adding 1e-6", "ceiling": "z one below the ceiling",
               "f32": "logarithm of the maximum in f32"}
    counts, values, running = {}, {}, None
    for index, (bits, b, name, z, px, py) in enumerate(kept):
        x, y = (np.array(p, np.uint32).view(np.float32) for p in (px, py))
        other = np.array(kept[[i for i in range(index % 3, len(kept), 3) if kept[i][0] == bits and kept[i][1] == (b + DONOR) % BLOCKS][0]][4],
                         np.uint32).view(np.float32) if name == "apply" else None
        if name == "init":
            want = z_of(x, bits)
        elif name == "update":
            running = max(0 if b % CHAIN == 0 else running, z_of(x, bits))
            want = running
        else:
            want = z_of(other, bits)
        key = (bits, name)
        values[key] = values.get(key, 0) + len(x)
        differ = lambda a: int((a.view(np.uint32) != y.view(np.uint32)).sum())
        add = lambda label, n: counts.__setitem__((*key, label), counts.get((*key, label), 0) + n)
        add("rule", differ(apply(x, want, bits)))
        add("rule, z", int(want != z))
        for label, options in neighbours.items():
            add(label, differ(apply(x, want, bits, **options)))
        if name == "init":
            for how, label in z_wrong.items():
                guess = z_of(x, bits, how)
                add(label + ", z", int(guess != z))
                add(label, differ(apply(x, guess, bits)) if guess != z else 0)
        elif name == "apply":
            add("own z instead of the stored one", differ(apply(x, z_of(x, bits), bits)))
        else:
            add("own z instead of the larger one", differ(apply(x, z_of(x, bits), bits)))
    for key, count in sorted(counts.items()):
        print(*key, count, "of", values[key[:2]] if not key[2].endswith(", z") else BLOCKS)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    check(Library(sys.argv[1]), Path(sys.argv[2]))
