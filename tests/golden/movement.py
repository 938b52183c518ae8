"""Golden numbers of movement pruning's sums and of dynamic network surgery: torch in double, gradient descent on all samples, for
tests/core/test_movement.c and tests/core/test_regrow.c.
usage: /usr/bin/python3 tests/golden/movement.py > tests/golden/movement.json"""
import json
import torch

torch.set_default_dtype(torch.float64)
gen = torch.Generator().manual_seed(5)
N, HIDDEN, RATE, STEPS = 12, 40, 0.4, 25


def draw(*shape):
    return torch.tensor([round(v, 4) for v in torch.randn(*shape, generator=gen).flatten().tolist()]).reshape(shape)


X, LABEL = draw(N, 4), torch.tensor([i % 3 for i in range(N)])
W = {"dense/kernel": draw(HIDDEN, 4), "dense/bias": draw(HIDDEN) * 0, "out/kernel": draw(3, HIDDEN) / 4, "out/bias": draw(3) * 0}
KERNELS = ("dense/kernel", "out/kernel")
MASKS = {"dense": lambda i: i % 3 != 1, "sparse": lambda i: i % 7 == 1}


def gradients(w):
    w = {k: v.clone().requires_grad_() for k, v in w.items()}
    h = torch.relu(X @ w["dense/kernel"].T + w["dense/bias"])
    torch.nn.functional.cross_entropy(h @ w["out/kernel"].T + w["out/bias"], LABEL).backward()
    return {k: v.grad for k, v in w.items()}


def masks(form):
    return {k: torch.tensor([float(MASKS[form](i)) for i in range(W[k].numel())]).reshape(W[k].shape) for k in KERNELS}


def movement(form):
    mask = masks(form)
    w = {k: v * mask.get(k, 1) for k, v in W.items()}
    moved = {k: torch.zeros_like(W[k]) for k in KERNELS}
    for _ in range(STEPS):
        g = gradients(w)
        for k in KERNELS:
            moved[k] -= w[k] * g[k]
        w = {k: w[k] - RATE * g[k] * mask.get(k, 1) for k in w}
    return {k: moved[k].flatten().tolist() for k in KERNELS}


def surgery(form, margin=0.1):
    mask, w = masks(form), dict(W)
    changes = 0
    for step in range(1, STEPS + 1):
        g = gradients({k: w[k] * mask.get(k, 1) for k in w})
        w = {k: w[k] - RATE * g[k] for k in w}
        for k in KERNELS if step < STEPS else ():
            size = (w[k].abs() / torch.where(mask[k] > 0, 1 - margin, 1 + margin)).flatten()
            n = int(mask[k].sum())
            order = torch.argsort(size, descending=True)
            assert size[order[n - 1]] > size[order[n]] * (1 + 1e-4), "too near a tie"
            new = torch.zeros(size.numel())
            new[order[:n]] = 1
            new = new.reshape(mask[k].shape)
            changes += int((new != mask[k]).sum())
            mask[k] = new
    assert changes > 20
    return {k: {"behind": w[k].flatten().tolist(), "mask": mask[k].flatten().int().tolist()} for k in KERNELS}


print(json.dumps({"torch": torch.__version__, "x": X.flatten().tolist(), "label": LABEL.tolist(), "w": {k: v.flatten().tolist() for k, v in W.items()},
                  "rate": RATE, "steps": STEPS, "movement": {f: movement(f) for f in MASKS}, "surgery": {f: surgery(f) for f in MASKS}}))
