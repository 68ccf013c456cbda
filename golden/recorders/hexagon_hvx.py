"""Recordings of Hexagon HVX instruction sequences: own programs under qemu-hexagon.

    apt-get install qemu-user clang-19 lld-19          # Debian 12: 7.2.22, 19.1.7
    pip install numpy==2.4.6
    python golden/recorders/hexagon_hvx.py golden/hexagon-hvx

Builds and runs hexagon/sequences.c. The program makes its own inputs; this script makes them again from the same
formula, and stops if one number differs: the formula is all that another reader needs. It then compares every output
with the rule that the specification states (0 may differ) and with neighbouring rules (they must differ somewhere).

Each sequence has 64,000 elements. `vectors.npz` keeps the first 8,192 (vrmpy: 2,048) as int32; recording.toml has the SHA-256 of all
64,000 of every array (int32, little-endian), inputs and outputs.
"""

import datetime
import hashlib
import io
import json
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

N, CHUNK = 64000, 128
SOURCE = Path(__file__).parent / "hexagon" / "sequences.c"
CPUS = [("v66", []), ("v67", []), ("v68", ["-cpu", "v67"]), ("v73", ["-cpu", "v67"])]  # build for, qemu's option
ENDS = np.array([-2**31, -2**31 + 1, -2**30, -1, 1, 2**30, 2**31 - 2, 2**31 - 1])
ENDS16 = np.array([-32768, -32767, -16384, -1, 1, 16384, 32766, 32767])


# ---------------------------------------------------------------- the program

def build_and_run(build, option, folder):
    common = [f"-m{build}", "-mhvx", "-mhvx-length=128B", "-O2", "-ffreestanding", "-fno-builtin"]
    target, binary = folder / f"{build}.o", folder / build
    subprocess.run(["clang-19", "--target=hexagon-unknown-linux-musl", *common, "-c", SOURCE, "-o", target], check=True)
    subprocess.run(["ld.lld-19", "-m", "hexagonelf", "-static", "-e", "_start", "-o", binary, target], check=True)
    return subprocess.run(["qemu-hexagon", *option, binary], check=True, stdout=subprocess.PIPE).stdout


def parse(data):
    sequences, at = {}, 0
    while at < len(data):
        name = data[at:at + 16].rstrip(b"\0").decode()
        at += 16
        if name.endswith("/"):
            current = sequences[name[:-1]] = {}
        else:
            current[name] = np.frombuffer(data, "<i4", N, at)
            at += 4 * N
    return sequences


# ---------------------------------------------------------------- the formula of the inputs, once more

def draws(seed, count):
    """The upper halves of an LCG modulo 2^64."""
    state, out = seed, np.empty(count, np.int64)
    for i in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        out[i] = state >> 32
    return out


def i32(x):
    return ((np.asarray(x) + 2**31) & 0xFFFFFFFF) - 2**31


def i16(x):
    return ((np.asarray(x) + 2**15) & 0xFFFF) - 2**15


def shl(x, s):
    return i32(np.asarray(x) << s)


def halfway(odd, s):
    return shl(2 * odd + 1, np.maximum(s - 1, 0))


def blocks(seed, size, head, each):
    """Draws of blocks of `size` elements: `head` numbers first, then `each` numbers an element."""
    raw = draws(seed, N // size * (head + size * each)).reshape(N // size, -1)
    elements = raw[:, head:].reshape(N, each)
    return [np.repeat(raw[:, k], size) for k in range(head)], [elements[:, k] for k in range(each)]


INDEX = np.arange(N)


def in_q31():
    _, (r, s) = blocks(1, N, 0, 2)
    k = 8 + (s >> 28)
    tie = shl((i32(r) >> (31 - k)) | 1, 30 - k)
    top = 2**30 | s >> 2
    kind = INDEX & 7
    a = np.choose(kind, [i32(r), tie, tie + np.where(s & 1, 1, -1), i32(r) >> 12, shl(i32(r) >> 16, s & 7),
                         shl((i32(r) >> 16) | 1, 15), ENDS[r >> 29], i32(r) >> 24])
    b = np.choose(kind, [i32(s), 1 << k, 1 << k, top, top, (s >> 17 | 1) << 15, ENDS[s >> 29], top])
    return {"a": a, "b": b}


def in_conv():
    (sh,), (r, s) = blocks(2, CHUNK, 1, 2)
    sh = sh >> 29
    kind, top = INDEX & 3, 2**30 | s >> 2
    acc = np.choose(kind, [(i32(r) >> 22) >> sh, i32(r) >> 22, (i32(r) >> 14) >> sh, i32(r)])
    return {"acc": acc, "shift": sh, "recip": np.choose(kind, [top, 1 << (30 - sh), s >> 8 | 1, top])}


def in_vasr_h():
    _, (r,) = blocks(3, N, 0, 1)
    s = (INDEX // CHUNK) & 7
    tie = halfway((r >> 22) - 256, s)
    x = np.choose(INDEX & 3, [r >> 16, tie, tie + np.where(r & 1, 1, -1), r >> (24 - s)])
    return {"x": i16(x), "shift": s}


def in_vasr_w():
    _, (r,) = blocks(4, N, 0, 1)
    s = (INDEX // 64) & 15
    tie = halfway(i32(r) >> 15, s)
    x = np.choose(INDEX & 3, [np.where(INDEX & 4, ENDS[r >> 29], i32(r)), tie, i32(tie + np.where(r & 1, 1, -1)),
                              i32(r) >> (16 - s)])
    return {"x": x, "shift": s}


def in_vmpy():
    both, (r,) = blocks(5, 64, 2, 1)
    kind = (INDEX // 64) & 3
    g = np.where(INDEX & 1, both[1], both[0])
    k = g >> 28
    b = np.choose(kind, [i16(g >> 16), i16(1 << k), 0x4000 | g >> 18, ENDS16[g >> 29]])
    tie = i16(((r >> 16) | 1) << np.maximum(14 - k, 0))
    third = np.where((kind == 1) & (k < 15), tie, i16((r >> 16) | 0x4000))
    return {"a": np.choose((INDEX >> 1) & 3, [i16(r >> 16), i32(r) >> 23, third, ENDS16[r >> 29]]), "b": b}


def in_pack():
    _, (r,) = blocks(6, N, 0, 1)
    last = shl((r >> 28) - 8, 14) + (r & 3) - 2 + np.where(r & 4, 256, 0)
    return {"x": np.choose(INDEX & 3, [i32(r), i32(r) >> 15, i32(r) >> 22, last])}


def in_vasl():
    _, (r,) = blocks(7, N, 0, 1)
    s = (INDEX // 32) & 31
    x = np.choose(INDEX & 3, [i32(r), i32(r) >> s, i32(r), i32(r) >> np.maximum(s - 1, 0)])
    return {"x": x, "shift": s}


def in_vrmpy():
    w, (r, *x) = blocks(8, 32, 4, 5)
    acc = np.choose(INDEX & 3, [np.zeros_like(r), r, 0x7FFF0000 | r >> 16, 0xFFFF0000 | r >> 16])
    out = {"acc": i32(acc)}
    out |= {f"x{k}": i32(x[k] | np.where(INDEX & 4, 0xC0C0C0C0, 0)) for k in range(4)}
    return out | {f"w{k}": i32(w[k] | np.where((INDEX // 32) & 1, 0x80808080, 0)) for k in range(4)}


def in_add():
    (r, t, u), (q,) = blocks(9, CHUNK, 3, 1)
    v = INDEX // CHUNK
    s, kind = v & 7, (v >> 3) & 3
    sa = np.choose(kind, [1 + (r >> 19), 256 << (r >> 30), 1 + (r >> 19), 128 * (1 + 2 * (r >> 28))])
    sb = np.choose(kind, [1 + (t >> 19), 256 << (t >> 30), -1 - (t >> 19), 128 * (1 + 2 * (t >> 28))])
    off = ((u >> 24) << s) - (((u >> 16 & 255) * sa + (u >> 8 & 255) * sb) >> 8)
    off = np.where((kind == 2) & (u & 7 == 0), np.where(u & 8, 32000, -32000), off)
    return {"a": q >> 24, "b": q >> 16 & 255, "a_scale": sa, "b_scale": sb,
            "offset": np.clip(off, -32768, 32767), "shift": s}


def in_average():
    _, (r,) = blocks(10, N, 0, 1)
    v = INDEX // CHUNK
    n = (1 + (v >> 1 & 127)) * np.where(v & 1, 9, 1)
    s = 1 + np.array([int(x - 1).bit_length() for x in n])
    whole = r >> 24
    half = whole * n + (n >> 1)
    total = np.choose(INDEX & 3, [r * (255 * n + 1) >> 32, half, half + np.where(r & 1, 1, -1),
                                  np.where(r & 1, whole * n, (r >> 16) - 4096)])
    return {"count": n, "sum256": total * 256, "shift": s, "mantissa": ((1 << (14 + s)) // n + 1) >> 1}


def in_8to8():
    (r, t), (q,) = blocks(11, CHUNK, 2, 1)
    v = INDEX // CHUNK
    p = np.where(v & 3 < 2, 0, (v & 3) - 1)
    g = np.where(v & 4, np.choose(p, [1 << (14 - (r >> 30)), 0x4000 | 1 << np.minimum(r >> 28, 13), 0 * r]),
                 np.choose(p, [r >> 17, 0x4000 | r >> 18, 0 * r]))
    z0 = np.where(v & 8, np.where(t & 1, 255, 0), t & 255)
    z1 = np.where(v & 8, np.where(t & 2, 255, 0), t >> 8 & 255)
    return {"x": q >> 24, "path": p, "gain": g, "shift": np.where(p == 1, 14 - (t >> 30), 0),
            "zero_in": z0, "zero_out": z1}


def in_32to8():
    (r, t), (q,) = blocks(12, CHUNK, 2, 1)
    v = INDEX // CHUNK
    k = 20 + (v & 7)
    tie = halfway(i32(q) >> 22, 31 - k)
    x = np.choose(INDEX & 3, [i32(q) >> (k - 9), tie, tie + np.where(q & 1, 1, -1),
                              np.where(q & 1, i32(q), ENDS[q >> 29])])
    return {"x": x, "gain": np.where(v & 8, 1 << k, 1 << k | r >> (32 - k)), "zero": t >> 24,
            "offset_before": -shl(t >> 24, 31 - k)}


def in_concat():
    (r, t), (q,) = blocks(13, CHUNK, 2, 1)
    v = INDEX // CHUNK
    o = np.where(v & 7 == 4, (t >> 25) * 128, np.where(v & 2, t >> 17, i16(t >> 16)))
    return {"x": q >> 24, "scale": np.where(v & 1, r >> 17, 1 << (7 + (r >> 29))), "offset": o}


# ---------------------------------------------------------------- rules

def shifted(x, s, ties):
    """x / 2^s rounded."""
    x, s = np.asarray(x, np.int64), np.asarray(s, np.int64)
    down, rest, half = x >> s, x & ((1 << s) - 1), (1 << s) >> 1
    if ties == "floor":
        return down
    if ties == "toward-zero":
        return down + ((x < 0) & (rest != 0))
    tie = {"half-up": True, "half-down": False, "half-even": down & 1 == 1, "half-away": x >= 0}[ties]
    return down + (s > 0) * ((rest > half) | ((rest == half) & tie))


ROUNDINGS = ["floor", "toward-zero", "half-down", "half-even", "half-away"]
sat32 = lambda x: np.clip(x, -2**31, 2**31 - 1)
sat16 = lambda x: np.clip(x, -2**15, 2**15 - 1)
sat8 = lambda x: np.clip(x, 0, 255)


def others(rule):
    """The same rule with other roundings."""
    return {f"rounding {ties}": rule(ties) for ties in ROUNDINGS}


def rules_q31(a, b):
    rule = lambda ties: sat32(shifted(a * b, 31, ties))
    two = lambda second: sat32(shifted(shifted(a * b, 16, "half-up"), 15, second))
    return {"y": rule("half-up")}, {"y": others(rule) | {
        "two roundings (>> 16, then >> 15)": two("half-up"), "wrap for saturate": i32(shifted(a * b, 31, "half-up"))}}


def rules_conv(acc, shift, recip):
    full = lambda ties="half-up", left=i32: sat32(shifted(left(acc << shift) * recip, 31, ties))
    right = {"y": sat8(sat16(full())), "y_vpacke": sat8(i16(full()))}
    return right, {"y": others(lambda ties: sat8(sat16(full(ties)))) | {
        "saturating left shift": sat8(full(left=sat32)), "left shift in 64 bits": sat8(full(left=lambda x: x)),
        "vpacke": right["y_vpacke"], "shift folded into one rounding right shift": sat8(shifted(acc * recip, 31 - shift, "half-up")),
        "rounded before the left shift": sat8(sat32(i32(shifted(acc * recip, 31, "half-up") << shift)))},
        "y_vpacke": {"saturating pack": right["y"]}}


def rules_vasr_h(x, shift):
    rule = lambda ties: sat8(shifted(x, shift, ties))
    return {"y": rule("half-up")}, {"y": others(rule) | {
        "wrap for saturate": shifted(x, shift, "half-up") & 255,
        "rounding constant added in 16 bits": sat8(i16(x + ((1 << shift) >> 1)) >> shift)}}


def rules_vasr_w(x, shift):
    rule = lambda ties: sat16(shifted(x, shift, ties))
    return {"y": rule("half-up")}, {"y": others(rule) | {
        "wrap for saturate": i16(shifted(x, shift, "half-up")),
        "rounding constant added in 32 bits": sat16(i32(x + ((1 << shift) >> 1)) >> shift)}}


def rules_vmpy(a, b):
    rule = lambda ties: sat16(shifted(2 * a * b, 16, ties))
    return {"y": rule("half-up")}, {"y": others(rule) | {
        "wrap for saturate": i16(shifted(a * b, 15, "half-up")), "0x8000 added before >> 15": sat16((a * b + 0x8000) >> 15)}}


def rules_pack(x):
    right = {"y": sat8(x), "y_vpacke": sat8(i16(x))}
    return right, {"y": {"low halfword": right["y_vpacke"], "low byte": x & 255},
                   "y_vpacke": {"saturating": right["y"], "upper halfword": sat8(x >> 16), "low byte": x & 255}}


def rules_vasl(x, shift):
    right = i32(x << shift)
    wrong = {"saturate": sat32(np.clip(x, -2**31, 2**31 - 1) * (1 << shift)), "shift modulo 16": i32(x << (shift & 15))}
    return {"y": right, "y_vector": right}, {"y": wrong, "y_vector": wrong}


def rules_vrmpy(acc, **columns):
    byte = lambda x, k: (x >> (8 * k)) & 255
    signed = lambda x, k: ((byte(x, k) + 128) & 255) - 128
    products = lambda fx, fw: [sum(fx(columns[f"x{s}"], k) * fw(columns[f"w{s}"], k) for k in range(4)) for s in range(4)]
    exact = acc + sum(products(byte, byte))
    unsigned = (acc & 0xFFFFFFFF) + sum(products(byte, byte))
    pair = acc
    for s in range(4):
        pair = sat32(pair + products(byte, byte)[s])
    wrong = {"saturate, signed": pair, "saturate, unsigned": i32(np.minimum(unsigned, 2**32 - 1)),
             "signed weights": i32(acc + sum(products(byte, signed))), "both signed": i32(acc + sum(products(signed, signed))),
             "pairs of products saturated to 16 bits": i32(acc + sum(
                 sat16(sum(byte(columns[f"x{s}"], k) * signed(columns[f"w{s}"], k) for k in h)) for s in range(4) for h in ((0, 1), (2, 3))))}
    return {"y": i32(exact), "y_vector": i32(exact)}, {"y": wrong, "y_vector": wrong}


def rules_add(a, b, a_scale, b_scale, offset, shift):
    def rule(first="floor", second="half-up", end=sat16):
        return sat8(shifted(end(shifted(a * a_scale + b * b_scale, 8, first) + offset), shift, second))
    wrong = {f"first shift {t}": rule(first=t) for t in ["half-up", "half-even", "toward-zero"]}
    wrong |= {f"last shift {t}": rule(second=t) for t in ROUNDINGS} | {"offset wraps at 16 bits": rule(end=i16)}
    wrong["one rounding"] = sat8(shifted(a * a_scale + b * b_scale + offset * 256, 8 + shift, "half-up"))
    wrong["each operand >> 8"] = sat8(shifted(sat16((a * a_scale >> 8) + (b * b_scale >> 8) + offset), shift, "half-up"))
    return {"y": rule(), "y_broadcast": rule()}, {"y": wrong, "y_broadcast": wrong}


def rules_average(count, sum256, shift, mantissa):
    def rule(one="half-up", two="half-up", three="half-up", bias=0):
        t = sat16(shifted(sum256, shift, one))
        u = sat16(shifted(t * mantissa + bias, 15, two))
        return sat8(shifted(u, 6, three))
    total = sum256 >> 8
    wrong = {f"{which} step {t}": rule(**{which: t}) for which in ("one", "two", "three") for t in ROUNDINGS}
    wrong |= {"second step adds 0x8000 (the library's C reference)": rule(bias=0x4000),
              "quotient rounded, halves up": sat8((2 * total + count) // (2 * count)),
              "quotient truncated": sat8(np.fix(total / count).astype(np.int64)),
              "first step wraps": sat8(shifted(shifted(i16(shifted(sum256, shift, "half-up")) * mantissa, 15, "half-up"), 6, "half-up"))}
    return {"y": rule()}, {"y": wrong}


def rules_8to8(x, path, gain, shift, zero_in, zero_out):
    d = x - zero_in

    def rule(ties="half-up"):
        low = sat8(sat16(shifted(2 * d * gain, 16, ties)) + zero_out)
        high = sat8(sat16(shifted(d * gain, shift, ties)) + zero_out)
        return np.choose(path, [low, high, sat8(d + zero_out)])
    product = np.where(path == 0, shifted(d * gain + (zero_out << 15), 15, "half-away"),
                       shifted(d * gain + (zero_out << shift), shift, "half-away"))
    wrong = others(rule) | {"zero point inside, half-away": np.where(path == 2, rule(), sat8(product)),
                            "0x8000 added before >> 15": np.where(path == 0, sat8(((d * gain + 0x8000) >> 15) + zero_out), rule())}
    return {"y": rule()}, {"y": wrong}


def rules_32to8(x, gain, zero, offset_before):
    q = lambda v, ties: sat32(shifted(v * gain, 31, ties))
    after = lambda ties="half-up": sat8(sat16(sat16(q(x, ties)) + zero))
    scalar = lambda ties="half-up": sat8(sat32(q(x, ties) + zero))
    before = lambda ties="half-up", end=sat32: sat8(sat16(q(end(x - offset_before), ties)))
    right = {"y_after": after(), "y_scalar": scalar(), "y_before": before()}
    return right, {"y_after": others(after) | {"offset before": before()}, "y_scalar": others(scalar),
                   "y_before": others(before) | {"offset after": after(), "subtraction wraps": before(end=i32)}}


def rules_concat(x, scale, offset):
    rule = lambda ties="half-up": sat8(shifted(x * scale + offset * 256, 15, ties))
    return {"y": rule()}, {"y": others(rule) | {
        "scale's low 8 bits dropped": sat8(shifted(x * (scale >> 8) + offset, 7, "half-up")),
        "product >> 8 rounded first": sat8(shifted(sat16(shifted(x * scale, 8, "half-up") + offset), 7, "half-up")),
        "multiply rounded, offset after": sat8(shifted(x * scale, 15, "half-up") + shifted(offset, 7, "half-up"))}}


SEQUENCES = {
    "q31": (in_q31, rules_q31, "vmpye(w, uh); vmpyo(w, h):<<1:rnd:sat:shift accumulating: sat32((a * b + 2^30) >> 31)"),
    "conv-epilogue": (in_conv, rules_conv, "vasl(w, R); the Q31 pair; vpack(w):sat or vpacke(w); vpack(h):sat to bytes"),
    "vasr-h-ub": (in_vasr_h, rules_vasr_h, "vasr(h, h, R):rnd:sat to bytes: sat_u8((x + (1 << s >> 1)) >> s), s = 0 .. 7"),
    "vasr-w-h": (in_vasr_w, rules_vasr_w, "vasr(w, w, R):rnd:sat to halfwords: sat16((x + (1 << s >> 1)) >> s), s = 0 .. 15"),
    "vmpy-h-rh": (in_vmpy, rules_vmpy, "vmpy(h, R.h):<<1:rnd:sat: sat16((2 * a * b + 0x8000) >> 16)"),
    "pack": (in_pack, rules_pack, "vpack(w):sat, vpack(h):sat: sat_u8(sat16(x)); vpacke(w), vpack(h):sat: sat_u8(low halfword)"),
    "vasl": (in_vasl, rules_vasl, "vasl(w, R) and vasl(w, w), s = 0 .. 31: wraps"),
    "vrmpy": (in_vrmpy, rules_vrmpy, "uw += vrmpy(ub, R.ub) and vrmpy(ub, ub), four in a row: wraps"),
    "add": (in_add, rules_add, "vmpa in two halves, vavg (or vmpy, vasr by 8); vadd(h):sat; vasr(h):rnd:sat: "
                               "sat_u8((sat16(((a * as + b * bs) >> 8) + offset) + (1 << s >> 1)) >> s)"),
    "average": (in_average, rules_average, "vasr(w):rnd:sat, vmpy(h, R.h):<<1:rnd:sat, vasr(h, h, 6):rnd:sat on sums * 256"),
    "requant-8to8": (in_8to8, rules_8to8, "vsub(h); path 0: vmpy(h, R.h):<<1:rnd:sat, path 1: vmpy, vasr(w):rnd:sat, path 2: none; "
                                          "vadd(h):sat; vpack(h):sat"),
    "requant-32to8": (in_32to8, rules_32to8, "the Q31 pair with the offset after it (halfwords, saturating), with the offset "
                                             "subtracted before it (words, saturating), and asrrnd of a 64-bit product"),
    "concat": (in_concat, rules_concat, "vmpy(ub) by the scale's two bytes, vadd(h):sat, vasr(h, h, 7):rnd:sat: "
                                        "sat_u8((x * scale + offset * 256 + 2^14) >> 15)"),
}


# ---------------------------------------------------------------- files

def write_npz(path, arrays):
    """np.savez_compressed with a fixed date, so that the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (2026, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data.getvalue())


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def version(command):
    return subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]


def main(folder):
    folder, runs = Path(folder), {}
    with tempfile.TemporaryDirectory() as scratch:
        for build, option in CPUS:
            runs[build] = build_and_run(build, option, Path(scratch))
    assert len({sha256(run) for run in runs.values()}) == 1, "builds differ"
    recorded = parse(runs["v66"])
    assert recorded.keys() == SEQUENCES.keys()
    tools = f"{version('qemu-hexagon')}; {version('clang-19')}; {version('ld.lld-19')}"
    for name, (inputs, rules, what) in SEQUENCES.items():
        arrays = {key: value.astype(np.int64) for key, value in recorded[name].items()}
        made = inputs()
        for key, value in made.items():
            assert np.array_equal(arrays[key], value), (name, key, "the formula differs from the program")
        right, wrong = rules(**made)
        assert arrays.keys() == made.keys() | right.keys(), name
        told, undecided = [], []
        for key, value in right.items():
            differing = int((arrays[key] != value).sum())
            assert differing == 0, (name, key, differing)
            for label, other in wrong[key].items():
                count = int((arrays[key] != other).sum())
                (told if count else undecided).append(f"{key}: {label} {count}" if count else f"{key}: {label}")
        kept = 2048 if name == "vrmpy" else 8192
        if any("half-away" in rule for rule in undecided):
            undecided.append("(half-away differs from half-up below zero only, and there every output is 0)")
        case = folder / name
        case.mkdir(parents=True, exist_ok=True)
        write_npz(case / "vectors.npz", {key: value[:kept] for key, value in recorded[name].items()})
        lines = [
            f"tool = {json.dumps(tools)}",
            f"platform = {json.dumps(f'{platform.system()} {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}')}",
            f"cpu_path = {json.dumps('qemu user mode, an instruction set model and not silicon; builds -mv66 and -mv67, and -mv68 and -mv73 run with -cpu v67: the same bytes')}",
            'command = "python golden/recorders/hexagon_hvx.py golden/hexagon-hvx"',
            f"date = {datetime.date.today().isoformat()}",
            'license = "Apache-2.0 OR MIT: program and data made by this project"',
            'license_of_the_tool = "GPL-2.0 (qemu); Apache-2.0 WITH LLVM-exception (clang, lld, HVX headers)"',
            f"what = {json.dumps(what)}",
            'targets = ["hexagon-nn"]',
            f"elements = {N}",
            f"elements_kept = {kept}",
            f"tells_apart = {json.dumps(f'of {N}: ' + '; '.join(told))}",
            f"undecided = {json.dumps('; '.join(undecided) or 'none of the rules that were tried')}",
            "", "[whole]  # SHA-256 of all elements of each array, int32, little-endian",
            *(f"{json.dumps(key)} = {json.dumps(sha256(value.tobytes()))}" for key, value in recorded[name].items()),
            "", "[sha256]", f'"vectors.npz" = "{sha256((case / "vectors.npz").read_bytes())}"']
        (case / "recording.toml").write_text("\n".join(lines) + "\n")
        print(f"{name}: 0 of {N} differ; {'; '.join(told)}" + (f"; UNDECIDED {undecided}" if undecided else ""))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
