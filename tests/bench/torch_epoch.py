"""The peer's epochs of LeNet-300-100: PyTorch, Adam 1e-3, masks of torch.nn.utils.prune at a sparsity drawn by chance (0: dense).

The other side of tests/bench/epochs.sh.

usage: torch_epoch.py DATA_DIR THREADS BATCH EPOCHS SPARSITY...     prints one JSON line per sparsity: seconds of each epoch
"""
import gzip, json, sys, time
import blas  # first: it says which kernels OpenBLAS takes
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
import torch.nn.utils.prune as P

data, threads, batch, epochs = sys.argv[1], *(int(v) for v in sys.argv[2:5])
torch.set_num_threads(threads); torch.manual_seed(0)

def idx(name, off): return np.frombuffer(gzip.open(f'{data}/{name}').read(), np.uint8, offset=off)
X = torch.from_numpy(idx('train-images-idx3-ubyte.gz', 16).reshape(-1, 784).astype(np.float32) / 255)
Y = torch.from_numpy(idx('train-labels-idx1-ubyte.gz', 8).astype(np.int64))

for sparsity in (float(v) for v in sys.argv[5:]):
    net = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    for m in net:
        if sparsity > 0 and isinstance(m, nn.Linear): P.random_unstructured(m, 'weight', sparsity)
    opt, took = torch.optim.Adam(net.parameters(), 1e-3), []
    for _ in range(epochs):
        t, p = time.time(), torch.randperm(len(X))
        for i in range(0, len(X), batch):
            j = p[i:i+batch]; opt.zero_grad(); F.cross_entropy(net(X[j]), Y[j]).backward(); opt.step()
        took.append(time.time() - t)
    print(json.dumps(dict(sparsity=sparsity, threads=threads, batch=batch, seconds=took)), flush=True)
