#!/usr/bin/env python3
"""Fashion-MNIST as data of CIFAR-10's size and file format: python3 tests/bench/cifar.py FOLDER. Writes FOLDER/train.bin (50,000 images) and
FOLDER/test.bin (10,000). Each grey image of 28x28 lies somewhere on 32x32 pixels, in a colour of its own before a background of another, with noise: so that
there is something to learn, but no channel says more than the others. For measuring jobs of that size where CIFAR-10 itself is not at hand."""
import gzip
import os
import sys

import numpy as np

SOURCE = "/usr/share/datasets/fashion-mnist"


def read(prefix):
    with gzip.open(f"{SOURCE}/{prefix}-images-idx3-ubyte.gz") as f:
        images = np.frombuffer(f.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(f"{SOURCE}/{prefix}-labels-idx1-ubyte.gz") as f:
        return images, np.frombuffer(f.read(), np.uint8, offset=8)


def write(path, prefix, n, seed):
    rng = np.random.default_rng(seed)
    images, labels = (a[:n] for a in read(prefix))
    shade = np.zeros((n, 32, 32), np.float32)
    for i, (y, x) in enumerate(rng.integers(0, 5, (n, 2))):
        shade[i, y:y + 28, x:x + 28] = images[i] / 255
    colour, ground = rng.uniform(90, 255, (2, n, 3, 1, 1)).astype(np.float32) * np.array([1, 0.5], np.float32).reshape(2, 1, 1, 1, 1)
    out = shade[:, None] * colour + (1 - shade[:, None]) * ground
    for part in np.array_split(out, 50):
        part += rng.normal(0, 12, part.shape)
    records = np.concatenate([labels[:, None], np.clip(out, 0, 255).astype(np.uint8).reshape(n, -1)], axis=1)
    records.tofile(path)


os.makedirs(sys.argv[1], exist_ok=True)
write(f"{sys.argv[1]}/train.bin", "train", 50000, 1)
write(f"{sys.argv[1]}/test.bin", "t10k", 10000, 2)
