"""Trains the network of digits_net.py in float and writes its weights, its ONNX file and the recorded inputs.

    pip install -r golden/recorders/requirements-digits.txt
    python golden/recorders/digits_train.py golden/toolchains/float
"""

import sys
from pathlib import Path

import numpy as np
import torch
from digits_net import DigitsNet, digits, samples
from torch.nn import functional as F


def main(out):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    xa, ya, xb, yb = map(torch.from_numpy, digits())
    net = DigitsNet()
    optimizer = torch.optim.AdamW(net.parameters(), 4e-3, weight_decay=1e-3)
    epochs, batch = 40, 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=epochs * (len(xa) // batch))
    for _ in range(epochs):
        order = torch.randperm(len(xa))
        for i in range(len(xa) // batch):
            take = order[i * batch:(i + 1) * batch]
            loss = sum(F.cross_entropy(logits, ya[take]) for logits in net(xa[take]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        scores = [float((logits.argmax(1) == yb).float().mean()) for logits in net(xb)]
    print("test accuracy fine, coarse:", scores)
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "weights.npz", **{k: v.numpy() for k, v in net.state_dict().items()})
    np.savez_compressed(out / "inputs.npz", image=samples())
    torch.onnx.export(net, (torch.zeros(1, 1, 8, 8),), out / "model.onnx", dynamo=False, opset_version=13,
                      input_names=["image"], output_names=["fine", "coarse"], do_constant_folding=False,
                      training=torch.onnx.TrainingMode.PRESERVE)


main(Path(sys.argv[1]))
