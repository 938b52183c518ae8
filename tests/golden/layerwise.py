#!/usr/bin/env python3
"""Makes tests/golden/layerwise.json: what layerwise criteria must find in a small net, by numpy in double precision, with a plain inverse wherever the
engine is clever. Debian's python3-numpy:
   /usr/bin/python3 tests/golden/layerwise.py > tests/golden/layerwise.json
Arrays are flat, in our layout: samples one after the other, kernels [out][in]. Input 3 is always 0, input 5 nearly input 4. "solved_runs": unit 2:4."""
import json

import numpy as np

rng = np.random.default_rng(7)
N, SIZES, BLOCK, DAMPING, GO = 40, (10, 6, 4), 4, 0.01, (37, 13)
RUNS, GO_RUNS = (4, 2), ((24, 8), (15, 5))


def flat(a):
    return [float(f"{v:.9g}") for v in np.asarray(a).reshape(-1)]


def f32(a):
    return a.astype(np.float32).astype(np.float64)


x = rng.normal(size=(SIZES[0], N))
x[3] = 0
x[5] = x[4] + 0.1 * x[5]
x = f32(x)
kernels = [f32(rng.normal(size=(SIZES[i + 1], SIZES[i]))) for i in range(2)]
kernels[0][0, 1] = kernels[0][2, 7] = kernels[0][2, 8] = 0
biases = [f32(rng.normal(size=SIZES[i + 1])) for i in range(2)]


def inputs(layer, kernel, bias):
    return x if layer == 0 else np.maximum(kernel @ x + bias[:, None], 0)


def hessian(inp):
    """H of the inputs and the constant 1, damped; which inputs are dead."""
    inp = np.vstack([inp, np.ones(N)])
    h = inp @ inp.T / N
    dead = np.diag(h) == 0
    mean = np.diag(h)[~dead].mean()
    h[dead, dead] = 1
    return h + DAMPING * mean * np.eye(len(h)), dead


def run(c, cols, runs):
    """Columns of the run that column c lies in."""
    return range(c - c % runs[0], min(c - c % runs[0] + runs[0], cols))


def spare(kept, columns, runs):
    """How many more of a row's columns may go."""
    return max(0, sum(bool(kept[c]) for c in columns) - (runs[1] if runs else 0))


def free(kernel, dead, n, runs=None):
    """Zeros, then weights of dead inputs, in their order."""
    zero = [(r, c) for r in range(kernel.shape[0]) for c in range(kernel.shape[1]) if kernel[r, c] == 0]
    cheap = [(r, c) for r in range(kernel.shape[0]) for c in range(kernel.shape[1]) if kernel[r, c] != 0 and dead[c]]
    if not runs:
        return (zero + cheap)[:n]
    out, mask = [], np.ones(kernel.shape, bool)
    for r, c in zero + cheap:
        if len(out) < n and spare(mask[r], run(c, kernel.shape[1], runs), runs):
            out.append((r, c))
            mask[r, c] = False
    return out


def sparsegpt(kernel, bias, h, dead, n, runs=None):
    w, cols = np.hstack([kernel, bias[:, None]]), kernel.shape[1]
    mask = np.ones(kernel.shape, bool)
    for rc in free(kernel, dead, n, runs):
        mask[rc] = False
    left, before = n - (~mask).sum(), 0
    step = runs[0] if runs else BLOCK
    alive = sum(spare(row, range(first, min(first + step, cols)), runs) for row in mask for first in range(0, cols, step))
    for first in range(0, cols, step):
        end = min(first + step, cols)
        corner = {c: np.linalg.inv(h[c:, c:])[0, 0] for c in range(first, end)}
        block = []
        for r in range(len(w)):
            row = sorted((w[r, c] ** 2 / corner[c], r, c) for c in range(first, end) if mask[r, c])
            block += row[:spare(mask[r], range(first, end), runs)]
        block.sort()
        for _, r, c in block[:left * (before + len(block)) // alive - left * before // alive]:
            mask[r, c] = False
        before += len(block)
        for c in range(first, end):
            inverse = np.linalg.inv(h[c:, c:])
            for r in range(len(w)):
                if not mask[r, c]:
                    w[r, c:] -= w[r, c] / inverse[0, 0] * inverse[0]
                    w[r, c] = 0
    return w[:, :-1], w[:, -1]


def trace(w, h, dead, mask=None, runs=None):
    """(cost, column) of one row until no more may go; cost is of that step, zeros -1."""
    w, keep, out, cols = w.copy(), [c for c in range(len(w)) if not dead[c]], [], len(w) - 1
    kept = None if mask is None else mask.copy()
    while len(keep) > 1:
        inverse = np.linalg.inv(h[np.ix_(keep, keep)])
        cost = [-1 if w[c] == 0 else w[c] ** 2 / inverse[i, i] for i, c in enumerate(keep[:-1])]
        if runs:
            cost = [v if not mask[c] or spare(kept, run(c, cols, runs), runs) else np.inf for v, c in zip(cost, keep)]
            if min(cost) == np.inf:
                break
        i = int(np.argmin(cost))
        out.append((cost[i], keep[i], w.copy()))
        if runs:
            kept[keep[i]] = False
        w[keep] -= w[keep[i]] / inverse[i, i] * inverse[:, i]
        w[keep[i]] = 0
        del keep[i]
    return out + [(np.inf, None, w.copy())]


def obs(kernel, bias, h, dead, n, runs=None):
    w = np.hstack([kernel, bias[:, None]])
    gone, mask = free(kernel, dead, n, runs), np.ones(kernel.shape, bool)
    for rc in gone:
        mask[rc] = False
    traces = [trace(row, h, dead, mask[r], runs) for r, row in enumerate(w)]
    at = [sum(not mask[r, c] and not dead[c] for c in range(kernel.shape[1])) for r in range(len(w))]
    for _ in range(n - len(gone)):
        r = min(range(len(w)), key=lambda r: (traces[r][at[r]][0], r))
        at[r] += 1
    out = np.array([traces[r][at[r]][2] for r in range(len(w))])
    for rc in gone:
        out[rc] = 0
    return out[:, :-1], out[:, -1]


def obs_scores(kernel, bias, h, dead):
    scores = np.zeros(kernel.shape)
    for r, row in enumerate(np.hstack([kernel, bias[:, None]])):
        highest = -1
        for cost, c, _ in trace(row, h, dead)[:-1]:
            highest = max(highest, cost)
            scores[r, c] = highest
    return scores


def ranks(scores):
    order = np.argsort(scores, axis=1, kind="stable")
    out = np.empty(scores.shape)
    for r, o in enumerate(order):
        out[r, o] = (np.arange(len(o)) + 1) / len(o)
    return out


out = {"n": N, "x": flat(x.T), "kernel": [flat(k) for k in kernels], "bias": [flat(b) for b in biases], "block": BLOCK, "damping": DAMPING, "go": GO,
       "scores": {"wanda_row": [], "wanda_kernel": [], "sparsegpt": [], "obs": []}, "solved": {}, "solved_runs": []}
for i in range(2):
    inp = inputs(i, kernels[0], biases[0])
    h, dead = hessian(inp)
    product = np.abs(kernels[i]) * np.sqrt((inp**2).mean(axis=1))
    out["scores"]["wanda_kernel"].append(flat(product))
    out["scores"]["wanda_row"].append(flat(ranks(product)))
    out["scores"]["sparsegpt"].append(flat(kernels[i] ** 2 / np.diag(np.linalg.inv(h))[:-1] * ~dead[:-1]))
    out["scores"]["obs"].append(flat(obs_scores(kernels[i], biases[i], h, dead)))
for name, solve in (("sparsegpt", sparsegpt), ("obs", obs)):
    k0, b0 = solve(kernels[0], biases[0], *hessian(x), GO[0])
    k1, b1 = solve(kernels[1], biases[1], *hessian(inputs(1, k0, b0)), GO[1])
    assert [(k == 0).sum() for k in (k0, k1)] == list(GO)
    out["solved"][name] = {"kernel": [flat(k0), flat(k1)], "bias": [flat(b0), flat(b1)]}
    for go in GO_RUNS:
        k0, b0 = solve(kernels[0], biases[0], *hessian(x), go[0], RUNS)
        k1, b1 = solve(kernels[1], biases[1], *hessian(inputs(1, k0, b0)), go[1], RUNS)
        out["solved_runs"].append({"criterion": name, "go": go, "kernel": [flat(k0), flat(k1)], "bias": [flat(b0), flat(b1)]})
print(json.dumps(out))
