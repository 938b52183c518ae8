"""The peer's steps of LeNet-5 (20-50-500) and ResNet-20 on random images: PyTorch, Adam, masks of torch.nn.utils.prune drawn by chance.

The other side of tests/bench/steps.sh.

usage: torch_steps.py THREADS BATCH STEPS NET:SPARSITY...     prints one JSON line each: milliseconds of a training step and of inference
"""
import json, sys, time
import blas  # first: it says which kernels OpenBLAS takes
import torch, torch.nn as nn, torch.nn.functional as F
import torch.nn.utils.prune as P

threads, batch, steps = (int(v) for v in sys.argv[1:4])
torch.set_num_threads(threads); torch.manual_seed(0)

class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.a, self.na = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.b, self.nb = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.short = nn.Sequential() if i == o else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
    def forward(self, x): return F.relu(self.nb(self.b(F.relu(self.na(self.a(x))))) + self.short(x))

def lenet5():
    return nn.Sequential(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10))
def resnet20():
    blocks, i = [], 16
    for o in (16, 32, 64):
        for k in range(3): blocks.append(Block(i, o, 2 if k == 0 and o > 16 else 1)); i = o
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(64, 10))

def least(fn):
    fn(); fn(); took = []
    for _ in range(steps): t = time.perf_counter(); fn(); took.append(time.perf_counter() - t)
    return dict(least=min(took) * 1e3, median=sorted(took)[len(took) // 2] * 1e3)

for name, sparsity in ((a.split(':')[0], float(a.split(':')[1])) for a in sys.argv[4:]):
    net, shape = (lenet5(), (1, 28, 28)) if name == 'lenet5' else (resnet20(), (3, 32, 32))
    for m in net.modules():
        if sparsity > 0 and isinstance(m, (nn.Linear, nn.Conv2d)): P.random_unstructured(m, 'weight', sparsity)
    opt, x, y = torch.optim.Adam(net.parameters(), 1e-3), torch.randn(batch, *shape), torch.randint(0, 10, (batch,))
    def step(): opt.zero_grad(); F.cross_entropy(net(x), y).backward(); opt.step()
    train = least(step); net.eval()
    with torch.no_grad(): infer = least(lambda: net(x))
    print(json.dumps(dict(net=name, sparsity=sparsity, threads=threads, train_ms=train['least'], train_median_ms=train['median'],
                          infer_ms=infer['least'], infer_median_ms=infer['median'])), flush=True)
