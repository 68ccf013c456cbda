"""How long align-check takes, in units of ONNX Runtime's plain int8 inference.

    python3 -m venv venv && venv/bin/pip install -r golden/recorders/bench/requirements.txt
    cargo build --release
    venv/bin/python golden/recorders/bench/ratios.py target/release/align-check ../shared/models/efficientnet-lite0

One thread, one photo. Everything is processor time (user and system), so that other work on the machine counts less; what
it does to caches and to the clock still counts, so the engines take turns and medians are compared. ONNX Runtime's is of a
session that is warm. A check's is what one more photo costs: a run of MANY copies of the photo less a run of one, divided.
The start-up is the run of one less that.
"""

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime as ort

MANY = 9
TEN = ("exact,onnxruntime,onnx-reference,tflite-reference,xnnpack,litert-x86,hexagon-nn,openvino-cpu,tvm,"
       "tvm-tonearest")
# (what, goal, mode, targets)
WORK = [
    ("cumulative only, exact", 1.0, "cumulative", "exact"),
    ("cumulative only, onnxruntime", 1.0, "cumulative", "onnxruntime"),
    ("cumulative only, tflite-reference", 1.0, "cumulative", "tflite-reference"),
    ("full check, exact", 2.0, "both", "exact"),
    ("full check, onnxruntime", 2.0, "both", "onnxruntime"),
    ("full check, tflite-reference", 2.0, "both", "tflite-reference"),
    ("ten targets, isolated", 4.0, "isolated", TEN),
]


def processor_time(command):
    """Seconds of user and system time of a command."""
    pid = os.posix_spawn(command[0], command, os.environ,
                         file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    # 3: a proof that leaves a layer open.
    assert code in (0, 1, 3), f"{command}: exit code {code}"
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", help="align-check's binary")
    parser.add_argument("folder", help="the folder of EfficientNet-Lite0")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    tool = os.path.abspath(args.tool)
    models = [("w8a8 (QONNX)", "w8a8/model.qonnx.onnx"), ("ort-qoperator", "ort-qoperator/model.onnx")]
    photo = np.load(os.path.join(args.folder, "inputs.npz"))["chelsea"]

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    int8 = os.path.join(args.folder, "ort-qoperator/model.onnx")
    session = ort.InferenceSession(int8, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: photo}
    for _ in range(5):
        session.run(None, feed)

    def inference():
        times = []
        for _ in range(20):
            start = time.process_time()
            session.run(None, feed)
            times.append(time.process_time() - start)
        return statistics.median(times)

    with tempfile.TemporaryDirectory() as folder:
        one, many = os.path.join(folder, "one.npz"), os.path.join(folder, "many.npz")
        np.savez(one, photo0=photo)
        np.savez(many, **{f"photo{i}": photo for i in range(MANY)})
        rows, base = {}, []
        for _ in range(args.repeat):
            for model, path in models:
                path = os.path.join(args.folder, path)
                for what, goal, mode, targets in WORK:
                    unit = inference()
                    base.append(unit)
                    check = [tool, path, "--target", targets, "--mode", mode, "-j", "1", "-q", "--input"]
                    first, all_ = (processor_time(check + [file]) for file in (one, many))
                    photo_time = (all_ - first) / (MANY - 1)
                    rows.setdefault((model, what), (goal, []))[1].append(photo_time / unit)
                    if what == "full check, exact":
                        rows.setdefault((model, "start-up (s)"), (0.25, []))[1].append(first - photo_time)
                prove = [tool, "prove", path, "--target", "onnxruntime", "-j", "1", "-q", "--input", one]
                rows.setdefault((model, "prove, start-up included (s)"), (2.0, []))[1].append(processor_time(prove))
        cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")),
                   platform.machine())
        version = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        print(f"{version}, onnxruntime {ort.__version__}, {cpu}; ONNX Runtime's int8 inference: "
              f"{statistics.median(base) * 1e3:.1f} ms ({min(base) * 1e3:.1f} to {max(base) * 1e3:.1f})\n")
        print("| model | work | goal | median | lowest | highest |\n|---|---|---|---|---|---|")
        for (model, what), (goal, values) in rows.items():
            middle = statistics.median(values)
            print(f"| {model} | {what} | {goal:g} | {middle:.2f} | {min(values):.2f} | {max(values):.2f} |")


if __name__ == "__main__":
    main()
