"""The digits network pruned by Condensa. It prunes and casts, and has no exporter: the file is PyTorch's plain float ONNX.

    pip install -r golden/recorders/requirements-condensa.txt    # and the package that the file names
    python golden/recorders/digits_condensa.py golden/toolchains
"""

import sys
import warnings
from pathlib import Path

import condensa
import numpy as np
import torch
from condensa import schemes
from digits_net import samples, trained
from qdq_model import provenance, save_npz

SAMPLES, DENSITY = 4, 0.5


def main(root):
    folder = Path(root) / "condensa"
    folder.mkdir(parents=True, exist_ok=True)
    net, images = trained(), samples()[:SAMPLES]
    schemes.Prune(DENSITY).pi(net)
    weights = [m.weight.detach().numpy() for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    zeros, total = sum(int((w == 0).sum()) for w in weights), sum(w.size for w in weights)
    refused = ""
    try:
        condensa.quantize(trained().head, condensa.int8)
    except TypeError as error:
        refused = f"{type(error).__name__}: {error}"
    names = ["fine", "coarse"]
    torch.onnx.export(net, (torch.zeros(1, 1, 8, 8),), folder / "model.onnx", dynamo=False, opset_version=13,
                      input_names=["image"], output_names=names)
    with torch.no_grad():
        ends = [net(torch.from_numpy(image[None])) for image in images]
    save_npz(folder / "inputs.npz", {"image": images})
    save_npz(folder / "outputs.npz", {n: np.concatenate([e[i].numpy() for e in ends]) for i, n in enumerate(names)})
    provenance(folder, ["model.onnx", "inputs.npz", "outputs.npz"], tools=["condensa", "torch", "onnx", "numpy"],
               cpu_path="PyTorch, float32", command="python golden/recorders/digits_condensa.py golden/toolchains",
               license_of_the_tool="Apache-2.0", targets=[], tells_apart="", undecided="",
               what=f"Condensa, schemes.Prune({DENSITY}): {zeros} of {total} convolution weights are zero (batch normalization folded by the "
                    f"exporter afterwards); nothing is quantized: there are no quantizers, and condensa.quantize refuses int8 ({refused})")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
