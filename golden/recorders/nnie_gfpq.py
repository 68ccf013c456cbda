"""Directed test vectors from HiSilicon's GFPQ quantizer, CPU library libgfpq.so.1.1.5 (x86-64 Linux).

    pip download nnieqat==0.1.0b0 --no-deps -d nnieqat-wheel
    unzip -q nnieqat-wheel/nnieqat-0.1.0b0-py3-none-any.whl -d nnieqat-wheel
    python3 golden/recorders/nnie_gfpq.py nnieqat-wheel golden/nnie-gfpq

Writes gfpq_vectors.json, gfpq_modes.json and, with nnie_gfpq_million.py, million.json.

    wheel   sha256 024229a8c8de835da2e2d73c6689a16970a732dd21529ed0a7489f4b7a337913
    library sha256 302d7e4cff13c5561b4199c6fae546797e5e445c81405e135806a5e60b32dc26 (checked below)

Standard library only; the package itself isn't imported. The library is closed: keep it out of the repository. The
first argument is the unpacked wheel or the library file.

Every input is a bit pattern found in exact integers, so it is the same on every machine. With S steps an octave the
levels are 2^(p/S) and the rounding boundaries 2^((2p+1)/2S), p an integer. Up to a power of two that is only 2S
mantissas, so a few cases visit all of them.
"""

import ctypes
import datetime
import hashlib
import json
import math
import platform
import struct
import sys
from pathlib import Path

LIBRARY = "libgfpq.so.1.1.5"
LIBRARY_SHA256 = "302d7e4cff13c5561b4199c6fae546797e5e445c81405e135806a5e60b32dc26"
WHEEL_SHA256 = "024229a8c8de835da2e2d73c6689a16970a732dd21529ed0a7489f4b7a337913"
INIT, UPDATE, APPLY_ONLY = 0, 1, 2
SIGN, INF, NAN, MAX_FINITE, MIN_NORMAL = 0x80000000, 0x7F800000, 0x7FC00000, 0x7F7FFFFF, 0x00800000
WIDTHS = {8: (16, 127, 511), 16: (128, 1407, 4095)}  # steps an octave S, largest code N, clamp of z


class Param(ctypes.Structure):
    _fields_ = [("mode", ctypes.c_int), ("block", ctypes.c_ubyte * 16)]


class Library:
    def __init__(self, path):
        path = Path(path)
        if path.is_dir():
            path = next(path.rglob(LIBRARY))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == LIBRARY_SHA256, "another library"
        self.function = ctypes.CDLL(str(path.resolve())).HI_GFPQ_QuantAndDeQuant_PY
        self.function.restype = ctypes.c_int
        self.function.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p]

    def call(self, param, mode, bits, x):
        """Quantizes bit patterns; returns the stored z and the patterns that the library writes."""
        param.mode = mode
        data = (ctypes.c_uint32 * max(1, len(x)))(*x)
        code = self.function(data, len(x), bits, ctypes.byref(param))
        assert code == 0, code
        return struct.unpack_from("<i", bytes(param.block), 4)[0], list(data)[:len(x)]


# ---------------------------------------------------------------- inputs

def pattern(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def floor2(p, q):
    """Bits of the largest float that isn't above 2^(p/q); q is a power of two, the float is normal."""
    exponent, rest = divmod(p, q)
    assert -126 <= exponent <= 127
    mantissa = 1 << (23 * q + rest)
    for _ in range(q.bit_length() - 1):  # floor(sqrt(floor(n))) = floor(sqrt(n))
        mantissa = math.isqrt(mantissa)
    return ((exponent + 127) << 23) + mantissa - (1 << 23)


def around(p, q, nearest, farthest=None):
    """Floats at the given distances, in ulp, at both sides of 2^(p/q), and 2^(p/q) itself where it is a float."""
    below, exact = floor2(p, q), p % q == 0
    for distance in range(nearest, (farthest or nearest) + 1):
        yield below - (distance - (not exact))
        yield below + distance
    if exact:
        yield below


def boundary(bits, z, k, nearest, farthest=None):
    return around(2 * (k + z) + 1, 2 * WIDTHS[bits][0], nearest, farthest)


def least_max(bits, z):
    """The smallest float whose tensor gets this z, by exact arithmetic."""
    steps, codes, _ = WIDTHS[bits]
    p = z + codes
    return floor2(p, steps) + (p % steps != 0)


def greatest_max(bits, z):
    return least_max(bits, z + 1) - 1


def thresholds(bits, z, farthest):
    """Beside the zero threshold of both signs; the positive one's place is tried with the other sign too."""
    steps = WIDTHS[bits][0]
    positive = list(around(z - steps, steps, 1, farthest))
    negative = [SIGN | x for x in around(z + 1 - steps, steps, 1, farthest)]
    return positive + negative + [SIGN | positive[0], negative[0] & ~SIGN]


def tensors():
    """(bits, bit patterns) of every INIT case."""
    for bits, (steps, codes, clamp) in WIDTHS.items():
        # 1. Rounding boundaries, one float at each side (every code at 8 bits; at 16 bits every code once, in cases
        # of 125, each at another z). The maximum is next to a boundary of z: the smallest or the greatest of its z.
        if bits == 8:
            runs = [(z, range(127), sign) for z in (-500, -209, -77, 3, 380) for sign in (0, SIGN)]
        else:
            zs = [-3900, -3333, -2748, -2221, -1689, -1279, -1002, -640, -77, 512, 1531, 2899]
            runs = [(z, range(125 * i, min(125 * (i + 1), 1407)), SIGN * (i % 2)) for i, z in enumerate(zs)]
            runs += [(z, range(630, 755), SIGN * (1 - i % 2)) for i, z in enumerate(zs[::3])]
        for i, (z, ks, sign) in enumerate(runs):
            top = least_max(bits, z) if i % 2 else greatest_max(bits, z)
            yield bits, [SIGN * (i % 3 == 1) | top] + [sign | x for k in ks for x in boundary(bits, z, k, 1)]
        # 2. The same, two and three floats away, every third code; both signs alternate.
        for z in [-300, 40] if bits == 8 else [-2000, 1]:
            ks = range(0, 127, 3) if bits == 8 else range(5, 1407, 34)
            yield bits, [least_max(bits, z)] + [SIGN * (k & 1) | x for k in ks for x in boundary(bits, z, k, 2, 3)]
        # 3. Boundaries of z: every mantissa of 2^(k/S), the floats beside it (and itself at powers of two); in each
        # tensor the zero thresholds of the z that it should get. Octaves change from mantissa to mantissa.
        turns, stride = (4, 5) if bits == 8 else (1, 7)
        octaves = range(-23, 40) if bits == 8 else range(-20, 43)
        for turn in range(turns):
            for rest in range(steps):
                octave = octaves[(turn * 17 + rest * stride) % len(octaves)]
                k = octave * steps + rest
                for j, top in enumerate(sorted(around(k, steps, 1))):
                    z = max(-clamp, min(clamp, k - codes - (top < least_max(bits, k - codes))))
                    sign = SIGN * ((rest + j) & 1)
                    yield bits, thresholds(bits, z, 1 + (rest + j) % 3) + [sign | top]
        # 4. More exact powers of two as maximum, with floats beside them.
        for octave in range(-20, 40, 4):
            one = floor2(octave, 1)
            for top in (one - 1, one, one + 1):
                yield bits, [top, SIGN | (one - (3 << 23)), floor2(octave * steps - 8 * steps + 3, steps)]
        # 5. Exact powers of two as values: levels, and the floats beside them; both signs.
        for z in (-5 * steps, -steps - 1, -codes, 4 * steps + 3):
            yield bits, [least_max(bits, z)] + [s | x for p in range(z // steps - 2, (z + codes) // steps + 1)
                                                for x in around(p, 1, 1) for s in (0, SIGN)]
        # 6. Clamps of z: maxima around the first and last z and beyond; values at the ends of the clamped range.
        for edge in (-clamp - 1, -clamp, -clamp + 1, clamp - 1, clamp, clamp + 1):
            for top in (least_max(bits, edge) - 1, least_max(bits, edge), least_max(bits, edge) + 1):
                z = max(-clamp, min(clamp, edge))
                yield bits, [top, *(x for x in thresholds(bits, z, 1) if x & ~SIGN <= top)]
        ends = [x for k in (0, 1, codes // 2, codes - 1) for x in boundary(bits, clamp, k, 1)]
        ends += thresholds(bits, clamp, 3)
        for top in (pattern(1e13), pattern(1e20), pattern(-1e30), pattern(3e38), MAX_FINITE, SIGN | MAX_FINITE):
            yield bits, [top, SIGN | top - 1 & ~SIGN, pattern(1.0), *ends, *(x ^ SIGN for x in ends[:8])]
        for exponent in range(-30, -16, 2):
            top = floor2(exponent, 1)
            lows = [x for x in thresholds(bits, -clamp, 2) if x & ~SIGN < top]
            lows += [x for k in (0, 1, 20, 40) for x in boundary(bits, -clamp, k, 1) if x < top]
            yield bits, [top, SIGN | top, top - 1, *lows]
        # 7. Tiny tensors: normal, smallest normal, denormal.
        for top in (pattern(1e-10), pattern(-1e-30), MIN_NORMAL, MIN_NORMAL - 1, 1, SIGN | 1, SIGN | 0x00400000):
            yield bits, [top, 0, SIGN, top & ~SIGN, 1]
        # 8. Zeros of both signs, and the maximum that zeros count as (1e-6) with its neighbours.
        yield from ((bits, x) for x in ([0], [SIGN], [0] * 8, [SIGN] * 3, [0, SIGN] * 16))
        yield from ((bits, [0, pattern(1e-6) + d, SIGN]) for d in (-1, 0, 1))
        # 9. Denormals and signed zeros beside ordinary numbers.
        small = [0, SIGN, 1, SIGN | 1, 0x00400000, SIGN | 0x00400000, MIN_NORMAL, SIGN | MIN_NORMAL, MIN_NORMAL - 1]
        yield bits, [pattern(1.0), *small]
        yield bits, [*small, pattern(-3e38)]
        # 10. Negative numbers only: every level of an octave, single numbers, boundaries.
        for z in (-codes, -3 * steps):
            levels = [SIGN | floor2(z + 1 + k * max(1, steps // 16), steps) for k in range(24)]
            yield bits, [SIGN | greatest_max(bits, z), *levels]
        yield from ((bits, [pattern(-x)]) for x in (1.0, 9.0, 0.1, 1e-3, 12345.0))
        # 11. Single positive numbers, nnieqat's own test vector, sizes 2 and 256.
        yield from ((bits, [pattern(x)]) for x in (1.0, 9.0, 0.1, 1e-3, 12345.0))
        yield bits, [pattern(float(x)) for x in (-9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)]
        yield bits, [pattern(-2.0), pattern(1.0)]
        yield bits, [SIGN * (k & 1) | floor2(k - 80, 16) + k % 2 for k in range(256)]


def sequences():
    """(name, steps of (mode, bits, bit patterns)); the parameter block starts zero-filled."""
    numbers = lambda *values: [pattern(x) for x in values]
    for bits, (steps, codes, clamp) in WIDTHS.items():
        probes = lambda z: [SIGN | greatest_max(bits, z), *thresholds(bits, z, 2), least_max(bits, z)] + [
            s | x for k in (0, 1, 2, codes // 2, codes - 1, codes) for x in boundary(bits, z, k, 1) for s in (0, SIGN)]
        spread = numbers(1e-30, -1e-30, 1e-9, -1e-6, 1e-4, -1e-3, 0.1, -0.1, 1, -1, 2, 9, -300, 3000, -1e6, 1e12, -3e38)
        yield "maxima 1, 4, 1/4, 8", [(m, bits, numbers(x, -x / 3, x / 300))
                                      for m, x in ((INIT, 1), (UPDATE, 4), (UPDATE, 0.25), (UPDATE, 8))]
        yield "zero block, small maxima: z stays 0", [(UPDATE, bits, numbers(1, -0.5, 0.4, 0.6)),
                                                      (UPDATE, bits, numbers(100, -0.53, 0.5)),
                                                      (APPLY_ONLY, bits, probes(0))]
        yield "zero block, large maximum", [(UPDATE, bits, numbers(1e6, 30, -2)), (UPDATE, bits, numbers(1)),
                                            (APPLY_ONLY, bits, spread)]
        yield "zero block applied: z is 0", [(APPLY_ONLY, bits, probes(0)), (APPLY_ONLY, bits, spread)]
        # One z up, by one float; one float less leaves it.
        for z in (-codes, -steps - 1, 2 * steps + 5):
            top = least_max(bits, z)
            yield f"z {z - 1}, then beside the next", [
                (INIT, bits, [SIGN | top - 1]), (UPDATE, bits, [top - 1, top - 2]), (UPDATE, bits, [1, SIGN | top]),
                (UPDATE, bits, [top - 1]), (APPLY_ONLY, bits, probes(z)), (INIT, bits, [top - 1])]
        for z in (-clamp, -codes - 3, 17, clamp):
            yield f"z {z} applied to other ranges", [
                (INIT, bits, [least_max(bits, z)]), (APPLY_ONLY, bits, spread), (APPLY_ONLY, bits, probes(z)),
                (APPLY_ONLY, bits, [floor2(p, 1) for p in range(-40, 60, 7)])]
        yield "zeros, then numbers", [(INIT, bits, [0, SIGN, 0]), (APPLY_ONLY, bits, numbers(1, -1, 1e-6, -1e-7, 1e-9)),
                                      (UPDATE, bits, [0]), (UPDATE, bits, numbers(1e-5)), (UPDATE, bits, numbers(1e-7))]
        yield "numbers, then zeros", [(INIT, bits, numbers(1, -1e-7)), (UPDATE, bits, [0, SIGN]), (INIT, bits, [0])]
        yield "empty tensors count as zeros", [(INIT, bits, []), (INIT, bits, numbers(2)), (UPDATE, bits, []),
                                               (APPLY_ONLY, bits, []), (INIT, bits, [])]
        yield "NaN and infinity", [
            (INIT, bits, [NAN, *numbers(2, -1)]), (INIT, bits, [*numbers(1), NAN | SIGN, *numbers(-2)]),
            (INIT, bits, [NAN]), (INIT, bits, numbers(1)), (UPDATE, bits, [NAN, *numbers(0.5)]),
            (APPLY_ONLY, bits, [INF, SIGN | INF, NAN, MAX_FINITE, 0x7F800001]), (UPDATE, bits, [INF, *numbers(1)]),
            (INIT, bits, [SIGN | INF, *numbers(1e12, -5e9)]), (INIT, bits, [INF, NAN])]
        yield "other mode numbers are UPDATE", [(INIT, bits, numbers(1)), (3, bits, numbers(0.25, -1)),
                                                (5, bits, numbers(4, 0.1)), (-1, bits, numbers(2)),
                                                (3, bits, numbers(8))]
    # The block doesn't record the width.
    yield "8-bit block used at 16 bits", [(INIT, 8, numbers(1)), (APPLY_ONLY, 16, numbers(1, -0.3, 500, 1e6)),
                                          (UPDATE, 16, numbers(1)), (UPDATE, 8, numbers(4))]
    yield "16-bit block used at 8 bits", [(INIT, 16, numbers(1)), (APPLY_ONLY, 8, numbers(1, -0.3, 1e-20, -1e-25)),
                                          (UPDATE, 8, numbers(1)), (INIT, 16, numbers(1e9)),
                                          (APPLY_ONLY, 8, numbers(1, 1e20, -3e38)), (UPDATE, 8, numbers(1e10))]


# ---------------------------------------------------------------- recording

def hexes(patterns):
    return [f"{x:08x}" for x in patterns]


def write(path, key, source, items):
    lines = ",\n".join(json.dumps(item, separators=(",", ":")) for item in items)
    path.write_text(f'{{"source":{json.dumps(source)},"{key}":[\n{lines}\n]}}\n')


def main(library, folder):
    library, folder = Library(library), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = f"{LIBRARY} sha256 {LIBRARY_SHA256} (PyPI nnieqat 0.1.0b0), HI_GFPQ_QuantAndDeQuant_PY, CPU"
    cases, seen = [], set()
    for bits, x in tensors():
        if (bits, *x) in seen:
            continue
        seen.add((bits, *x))
        assert 0 < len(x) <= 256, len(x)
        z, y = library.call(Param(), INIT, bits, x)
        cases.append({"bits": bits, "z": z, "x_hex": hexes(x), "y_hex": hexes(y)})
    write(folder / "gfpq_vectors.json", "cases", source, cases)
    recorded = []
    for name, steps in sequences():
        param, done = Param(), []
        for mode, bits, x in steps:
            z, y = library.call(param, mode, bits, x)
            done.append({"mode": mode, "bits": bits, "z": z, "x_hex": hexes(x), "y_hex": hexes(y)})
        recorded.append({"name": name, "steps": done})
    write(folder / "gfpq_modes.json", "sequences", source, recorded)
    sys.modules["nnie_gfpq"] = sys.modules[__name__]  # as this file is run, not a second copy
    import nnie_gfpq_million
    nnie_gfpq_million.record(library, folder, source)

    values = sum(len(case["x_hex"]) for case in cases)
    calls = sum(len(item["steps"]) for item in recorded)
    call_values = sum(len(step["x_hex"]) for item in recorded for step in item["steps"])
    machine = f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}"
    sha256 = lambda name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "recording.toml").write_text(f'''\
tool = "HiSilicon {LIBRARY} (built Oct 11 2019), from the wheel nnieqat 0.1.0b0, through ctypes; CPU entry point"
tool_sha256 = "{LIBRARY_SHA256}"
wheel_sha256 = "{WHEEL_SHA256}"
platform = "{machine}, Python {platform.python_version()}"
command = "python3 golden/recorders/nnie_gfpq.py nnieqat-wheel golden/nnie-gfpq"
date = {datetime.date.today().isoformat()}
license = "Apache-2.0 OR MIT: own inputs and recorded outputs, made by this project's script"
license_of_the_tool = "Not in this repository. The wheel's license file is MIT (package author), without a HiSilicon \\
notice; upstream aovoc/nnieqat-pytorch has nnieqat/cuda10/LICENSE.txt, BSD-2-Clause, (c) 2018 Hisilicon Limited"
what = "GFPQ quantizer, 8 and 16 bits: {len(cases)} INIT cases ({values} values); {len(recorded)} sequences of \\
INIT, UPDATE, APPLY_ONLY ({calls} calls, {call_values} values); checksums of 1000000 values a width in each mode"
targets = ["nnie"]
tells_apart = "floor or round in z; f64 or f32 logarithm; zero zone, its end per sign, its equality; code 0 or 1 as \\
least negative; clamps of z and of codes; z of zeros; stored or own z"

[sha256]
"gfpq_vectors.json" = "{sha256("gfpq_vectors.json")}"
"gfpq_modes.json" = "{sha256("gfpq_modes.json")}"
"million.json" = "{sha256("million.json")}"
'''.replace("\\\n", ""))
    print(f"{len(cases)} cases, {values} values; {len(recorded)} sequences, {calls} calls, {call_values} values")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
