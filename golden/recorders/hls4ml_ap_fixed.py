"""Conversions and sums of ap_fixed numbers, as Xilinx's ap_types headers in the hls4ml 1.3.0 wheel compute them.

    pip install -r golden/recorders/requirements-hls4ml.txt && pip install --no-deps hls4ml==1.3.0
    python golden/recorders/hls4ml_ap_fixed.py golden/hls4ml/ap-fixed

Compiles hls4ml_ap_fixed.cpp with g++ (some minutes), runs it, stores its tables, and compares them with
hls4ml_fixed.py and with neighbouring rules. The headers stay in the wheel.

-DNDEBUG, because without it the headers end the program by an assertion ("Attempting to read bit beyond MSB") where a
type is rounded into one that keeps none of its bits and one bit more: source fraction - destination fraction greater
than the source's width, any quantization but AP_TRN.
"""

import subprocess
import sys
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import hls4ml_fixed as fx
from hls4ml_recording import gxx, provenance

HERE = Path(__file__).parent
TERMS = 12
KEYS = ["src_width", "src_integer", "src_signed", "dst_width", "dst_integer", "dst_signed", "quantization", "overflow"]


def record():
    headers = Path(find_spec("hls4ml").origin).parent / "templates/vivado/ap_types"
    with tempfile.TemporaryDirectory() as folder:
        exe = Path(folder) / "ap_fixed"
        subprocess.run(["g++", "-std=c++17", "-O0", "-w", "-DNDEBUG", f"-I{headers}", HERE / "hls4ml_ap_fixed.cpp", "-o", exe],
                       check=True)
        table = lambda what: subprocess.run([exe, what], check=True, stdout=subprocess.PIPE).stdout
        return {k: table(k) for k in ["w8", "w3", "w1", "accumulate", "double", "numbers"]}


def arrays(raw):
    out = {}
    for k in ["w8", "w3", "w1"]:
        rows = np.frombuffer(raw[k], "<i2").reshape(-1, 8 + 2 ** int(k[1]))
        out[f"{k}_types"], out[f"{k}_codes"] = rows[:, :8].astype(np.int8), rows[:, 8:].astype(np.int8)
    rows = np.frombuffer(raw["accumulate"], "<i2").reshape(-1, 7 + 4 * TERMS)
    out["accumulate_types"], out["accumulate_bias"], out["accumulate_start"] = rows[:, :5].astype(np.int8), rows[:, 5], rows[:, 6]
    for i, name in enumerate(["x", "w", "term", "sum"]):
        out[f"accumulate_{name}"] = rows[:, 7 + i :: 4]
    out["double_values"] = np.frombuffer(raw["numbers"], "<f8")
    rows = np.frombuffer(raw["double"], "<i2").reshape(-1, 5 + len(out["double_values"])).astype(np.int32)
    out["double_types"] = rows[:, :5].astype(np.int8)
    out["double_codes"] = np.where(rows[:, 2:3] == 0, rows[:, 5:] & 0xFFFF, rows[:, 5:])
    return out


def kind(row):
    w, i, s, q, o = (int(v) for v in row)
    return fx.Type(w, i, bool(s), fx.QUANTIZATION[q], fx.OVERFLOW[o])


def overflow_first(x, frac, t):
    """A neighbour: wraps or saturates the truncated number, then rounds."""
    d = max(frac - t.frac, 0)
    wide = t._replace(width=t.width + d, integer=t.integer)
    y = fx.fit(x, wide, x >> wide.width) if frac >= t.frac else x
    return fx.cast(y, frac, t._replace(o="WRAP"))


def check(v):
    """Differing elements: of the rules in hls4ml_fixed.py, and of neighbours."""
    bad, n = Counter(), Counter()
    other = {q: Counter() for q in fx.QUANTIZATION}
    for k in ["w8", "w3", "w1"]:
        bits = int(k[1])
        for head, codes in zip(v[f"{k}_types"], v[f"{k}_codes"]):
            t, frac = kind(head[3:]), int(head[0]) - int(head[1])
            c = np.arange(2**bits)
            c = np.where(c >= 2 ** (bits - 1), c - 2**bits, c) if head[2] else c
            n["conversions"] += len(c)
            bad["conversions"] += int((fx.cast(c, frac, t) != codes).sum())
            bad["overflow before rounding"] += int((overflow_first(c, frac, t) != codes).sum())
            if t.o == "WRAP_SM":
                n["WRAP_SM"] += len(c)
                bad["WRAP_SM as WRAP"] += int((fx.cast(c, frac, t._replace(o="WRAP")) != codes).sum())
                d = frac - t.frac
                y = fx.shift_right(c, d, t.q) if d > 0 else c << -d
                bad["WRAP_SM with the bit after rounding"] += int((fx.fit(y, t, y >> t.width) != codes).sum())
            if t.o == "SAT_SYM" and t.signed and t.width > 1:
                bad["SAT_SYM as SAT"] += int((fx.cast(c, frac, t._replace(o="SAT")) != codes).sum())
            for q in fx.QUANTIZATION:
                if k == "w8" and t.o == "SAT":
                    other[t.q][q] += int((fx.cast(c, frac, t._replace(q=q)) != codes).sum())
    v64 = {k: a.astype(np.int64) for k, a in v.items() if k.startswith("accumulate")}
    for i, head in enumerate(v["accumulate_types"]):
        t = kind(head)
        acc = free = one = fx.cast(v64["accumulate_bias"][i], 5, t)
        exact, wide = v64["accumulate_bias"][i] << 5, max(10, t.frac)
        n["sums"] += 1 + 2 * TERMS
        bad["sums"] += int(acc != v["accumulate_start"][i])
        for x, w, term, total in zip(*(v64[f"accumulate_{k}"][i] for k in ["x", "w", "term", "sum"])):
            p = fx.cast(x * w, 10, t)
            acc = fx.cast(acc + p, t.frac, t)
            bad["sums"] += int(p != term) + int(acc != total)
            free = fx.cast((free << wide - t.frac) + (x * w << wide - 10), wide, t)
            bad["product added whole, then cast"] += int(free != total)
            exact += x * w
            bad["cast after the whole sum"] += int(fx.cast(exact, 10, t) != total)
    for head, codes in zip(v["double_types"], v["double_codes"]):
        y = fx.from_float(v["double_values"], kind(head)).astype(np.int64)
        n["from double"] += len(y)
        bad["from double"] += int((y != codes).sum())
    return bad, n, other


def main(folder):
    v = arrays(record())
    bad, n, other = check(v)
    for name in ["conversions", "sums", "from double"]:
        print(f"{name}: {bad[name]} of {n[name]} differ")
        assert bad[name] == 0, name
    neighbours = {k: b for k, b in bad.items() if k not in n}
    for q, row in other.items():
        print(q, {k: c for k, c in row.items()})
        assert row[q] == 0 and all(c for k, c in row.items() if k != q)
    print(neighbours)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "vectors.npz", **v)
    least = min((c, a, b) for a, row in other.items() for b, c in row.items() if a != b)
    tells = (f"of {n['conversions']} conversions: " + ", ".join(f"{k} {c}" for k, c in neighbours.items() if "sum" not in k and "whole" not in k)
             + f"; taking one quantization for another differs in at least {least[0]} ({least[1]} as {least[2]}) of those with SAT"
             + f"; of {n['sums']} sums and terms: " + ", ".join(f"{k} {c}" for k, c in neighbours.items() if "sum" in k or "whole" in k))
    provenance(folder, ["hls4ml", "numpy"], dict(
        cpu_path=f"integers in C++: {gxx()} -std=c++17 -O0 -DNDEBUG, Xilinx ap_types headers of the wheel",
        command=f"python golden/recorders/{Path(__file__).name} golden/hls4ml/ap-fixed",
        license_of_the_tool="Apache-2.0",
        what="ap_fixed and ap_ufixed: every code of 8-, 3-, and 1-bit types into narrow types, 7 quantization modes x "
             "5 overflow modes; sums of products term by term; conversion of float64",
        targets=["hls4ml"],
        tells_apart=tells,
        undecided="saturation bits N other than 0; ap_ufixed with AP_WRAP_SM (the headers refuse it)",
        columns=KEYS,  # of w8_types, w3_types, w1_types; the last five of the other tables
        quantization=fx.QUANTIZATION,  # a number in the tables is an index here
        overflow=fx.OVERFLOW,
    ))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
