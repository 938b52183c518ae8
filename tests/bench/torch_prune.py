"""The peer's way to run one pruning job: PyTorch with torch.nn.utils.prune, masked retraining.

The other side of tests/bench/job.sh.

usage: torch_prune.py DATA_DIR [--net lenet300100|lenet5] [--dense 10] [--iters 10] [--retrain 2] [--target 0.95]
                      [--batch 128] [--seed 0] [--threads 1] [--init torch|keras]
DATA_DIR holds MNIST-style IDX gz files. Prints one JSON line per stage: seconds, test accuracy, sparsity.
Cubic (Zhu-Gupta) schedule, global L1 magnitude, Adam 1e-3, fresh optimizer state each iteration.
--init keras: weights begin as Keras' and ours do (Glorot uniform, biases 0) instead of PyTorch's way.
"""
import argparse, gzip, json, time
import blas  # first: it says which kernels OpenBLAS takes
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
import torch.nn.utils.prune as P

a = argparse.ArgumentParser(); a.add_argument('data'); a.add_argument('--net', default='lenet300100')
for k, v in dict(dense=10, iters=10, retrain=2, batch=128, seed=0, threads=1).items(): a.add_argument('--'+k, type=int, default=v)
a.add_argument('--target', type=float, default=.95); a.add_argument('--init', choices=('torch', 'keras'), default='torch'); a = a.parse_args()
torch.set_num_threads(a.threads); torch.manual_seed(a.seed)

def idx(name, off): return np.frombuffer(gzip.open(f'{a.data}/{name}').read(), np.uint8, offset=off)
X = torch.from_numpy(idx('train-images-idx3-ubyte.gz', 16).reshape(-1, 1, 28, 28).astype(np.float32) / 255)
Y = torch.from_numpy(idx('train-labels-idx1-ubyte.gz', 8).astype(np.int64))
Xt = torch.from_numpy(idx('t10k-images-idx3-ubyte.gz', 16).reshape(-1, 1, 28, 28).astype(np.float32) / 255)
Yt = torch.from_numpy(idx('t10k-labels-idx1-ubyte.gz', 8).astype(np.int64))
nets = dict(
    lenet300100=lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)),
    lenet5=lambda: nn.Sequential(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
                                 nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)))
net = nets[a.net](); mods = [(m, 'weight') for m in net if isinstance(m, (nn.Linear, nn.Conv2d))]
for m, _ in mods:
    if a.init == 'keras': nn.init.xavier_uniform_(m.weight); nn.init.zeros_(m.bias)

def fit(epochs):
    opt = torch.optim.Adam(net.parameters(), 1e-3); net.train(); t = time.time()
    for _ in range(epochs):
        p = torch.randperm(len(X))
        for i in range(0, len(X), a.batch):
            j = p[i:i+a.batch]; opt.zero_grad(); F.cross_entropy(net(X[j]), Y[j]).backward(); opt.step()
    return time.time() - t
def report(stage, secs, epochs):
    net.eval()
    with torch.no_grad(): acc = sum((net(Xt[i:i+1000]).argmax(1) == Yt[i:i+1000]).sum().item() for i in range(0, len(Xt), 1000)) / len(Xt)
    n = sum(m.weight.numel() for m, _ in mods); z = sum((m.weight == 0).sum().item() for m, _ in mods)
    print(json.dumps(dict(stage=stage, seconds=round(secs, 3), s_per_epoch=round(secs/max(epochs, 1), 3), accuracy=acc, sparsity=round(z/n, 5))), flush=True)

t0 = time.time(); report('dense', fit(a.dense), a.dense); done = 0.
for i in range(1, a.iters + 1):
    s = a.target * (1 - (1 - i / a.iters) ** 3)
    P.global_unstructured(mods, P.L1Unstructured, amount=(s - done) / (1 - done)); done = s
    report(f'iter{i}', fit(a.retrain), a.retrain)
print(json.dumps(dict(stage='total', seconds=round(time.time() - t0, 3))))
