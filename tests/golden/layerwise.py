#!/usr/bin/env python3
"""Makes tests/golden/layerwise.json: what layerwise criteria must find in a small net, by numpy in double precision, with a plain inverse wherever the
engine is clever, and in convolutions, whose patches PyTorch unfolds. Debian's python3-numpy and python3-torch:
   /usr/bin/python3 tests/golden/layerwise.py > tests/golden/layerwise.json
Arrays are flat, in our layout: samples one after the other, kernels [out][in]. Input 3 is always 0, input 5 nearly input 4. "solved_runs": unit 2:4. "convs": nets of one
convolution, images (channels, height, width); channel 1 of the grouped one is always 0."""
import json

import numpy as np
import torch

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


def hessian(inp, samples=N, bias=True):
    """H of the inputs (columns, samples and places) and, with a bias, the constant 1, damped; which inputs are dead."""
    if bias:
        inp = np.vstack([inp, np.ones(inp.shape[1])])
    h = inp @ inp.T / samples
    dead = np.diag(h) == 0
    mean = np.diag(h)[~dead].mean()
    h[dead, dead] = 1
    return h + DAMPING * mean * np.eye(len(h)), dead


def all_rows(hd, rows):
    """The same H and the same dead inputs for every row."""
    return [hd[0]] * rows, [hd[1]] * rows


def run(c, cols, runs):
    """Columns of the run that column c lies in."""
    return range(c - c % runs[0], min(c - c % runs[0] + runs[0], cols))


def spare(kept, columns, runs):
    """How many more of a row's columns may go."""
    return max(0, sum(bool(kept[c]) for c in columns) - (runs[1] if runs else 0))


def free(kernel, dead, n, runs=None):
    """Zeros, then weights of dead inputs, in their order."""
    zero = [(r, c) for r in range(kernel.shape[0]) for c in range(kernel.shape[1]) if kernel[r, c] == 0]
    cheap = [(r, c) for r in range(kernel.shape[0]) for c in range(kernel.shape[1]) if kernel[r, c] != 0 and dead[r][c]]
    if not runs:
        return (zero + cheap)[:n]
    out, mask = [], np.ones(kernel.shape, bool)
    for r, c in zero + cheap:
        if len(out) < n and spare(mask[r], run(c, kernel.shape[1], runs), runs):
            out.append((r, c))
            mask[r, c] = False
    return out


def sparsegpt(kernel, bias, h, dead, n, runs=None):
    w, cols = kernel.copy() if bias is None else np.hstack([kernel, bias[:, None]]), kernel.shape[1]
    mask = np.ones(kernel.shape, bool)
    for rc in free(kernel, dead, n, runs):
        mask[rc] = False
    left, before = n - (~mask).sum(), 0
    step = runs[0] if runs else BLOCK
    alive = sum(spare(row, range(first, min(first + step, cols)), runs) for row in mask for first in range(0, cols, step))
    for first in range(0, cols, step):
        end = min(first + step, cols)
        block = []
        for r in range(len(w)):
            row = sorted((w[r, c] ** 2 / np.linalg.inv(h[r][c:, c:])[0, 0], r, c) for c in range(first, end) if mask[r, c])
            block += row[:spare(mask[r], range(first, end), runs)]
        block.sort()
        for _, r, c in block[:left * (before + len(block)) // alive - left * before // alive]:
            mask[r, c] = False
        before += len(block)
        for c in range(first, end):
            for r in range(len(w)):
                if not mask[r, c]:
                    inverse = np.linalg.inv(h[r][c:, c:])
                    w[r, c:] -= w[r, c] / inverse[0, 0] * inverse[0]
                    w[r, c] = 0
    return w[:, :cols], w[:, cols:].reshape(-1)


def trace(w, h, dead, cols, mask=None, runs=None):
    """(cost, column) of one row until no more may go; cost is of that step, zeros -1."""
    w, keep, out = w.copy(), [c for c in range(len(w)) if not dead[c]], []
    kept = None if mask is None else mask.copy()
    while len(keep) > len(w) - cols:
        inverse = np.linalg.inv(h[np.ix_(keep, keep)])
        cost = [-1 if w[c] == 0 else w[c] ** 2 / inverse[i, i] for i, c in enumerate(keep) if c < cols]
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
    w, cols = kernel.copy() if bias is None else np.hstack([kernel, bias[:, None]]), kernel.shape[1]
    gone, mask = free(kernel, dead, n, runs), np.ones(kernel.shape, bool)
    for rc in gone:
        mask[rc] = False
    traces = [trace(row, h[r], dead[r], cols, mask[r], runs) for r, row in enumerate(w)]
    at = [sum(not mask[r, c] and not dead[r][c] for c in range(cols)) for r in range(len(w))]
    for _ in range(n - len(gone)):
        r = min(range(len(w)), key=lambda r: (traces[r][at[r]][0], r))
        at[r] += 1
    out = np.array([traces[r][at[r]][2] for r in range(len(w))])
    for rc in gone:
        out[rc] = 0
    return out[:, :cols], out[:, cols:].reshape(-1)


def obs_scores(kernel, bias, h, dead):
    scores = np.zeros(kernel.shape)
    for r, row in enumerate(kernel if bias is None else np.hstack([kernel, bias[:, None]])):
        highest = -1
        for cost, c, _ in trace(row, h[r], dead[r], kernel.shape[1])[:-1]:
            highest = max(highest, cost)
            scores[r, c] = highest
    return scores


def ranks(scores):
    order = np.argsort(scores, axis=1, kind="stable")
    out = np.empty(scores.shape)
    for r, o in enumerate(order):
        out[r, o] = (np.arange(len(o)) + 1) / len(o)
    return out


def scores(kernel, bias, h, dead, mean_square):
    """Of a kernel [rows][columns]; mean_square: of each number's input."""
    product = np.abs(kernel) * np.sqrt(mean_square)
    diagonal = np.array([np.diag(np.linalg.inv(m))[: kernel.shape[1]] for m in h])
    alive = np.array([~d[: kernel.shape[1]] for d in dead])
    return {"wanda_kernel": flat(product), "wanda_row": flat(ranks(product)), "sparsegpt": flat(kernel**2 / diagonal * alive),
            "obs": flat(obs_scores(kernel, bias, h, dead))}


def patches(images, kernel_size, stride, dilation, same, groups):
    """[group][columns][samples * places], as Keras pads."""
    pads = []
    for size, k, s, d in zip(images.shape[2:], kernel_size, stride, dilation):
        total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size) if same else 0
        pads = [total // 2, total - total // 2] + pads
    t = torch.nn.functional.pad(torch.from_numpy(images), pads)
    u = torch.nn.functional.unfold(t, kernel_size, dilation=dilation, stride=stride).numpy()
    return [p.transpose(1, 0, 2).reshape(p.shape[1], -1) for p in np.split(u, groups, axis=1)]


def conv(op, image, kernel_shape, groups=1, bias=True, same=False, stride=(1, 1), dilation=(1, 1), **options):
    """A convolution's golden numbers; image (c, h, w), kernel_shape (out, kh, kw)."""
    samples, shape = 12, (kernel_shape[0], image[0] // groups) + kernel_shape[1:]
    images = f32(rng.normal(size=(samples,) + image))
    images[:, :, 1:] += 0.5 * images[:, :, :-1]
    if groups == 2:
        images[:, 1] = 0
    images = f32(images)
    kernel = f32(rng.normal(size=(shape[0], int(np.prod(shape[1:])))))
    kernel[0, 1] = kernel[-1, 2] = 0
    b = f32(rng.normal(size=shape[0])) if bias else None
    parts = patches(images, shape[2:], stride, dilation, same, groups)
    hd = [hessian(p, samples, bias) for p in parts for _ in range(shape[0] // groups)]
    h, dead = [x[0] for x in hd], [x[1] for x in hd]
    square = np.array([(p**2).mean(axis=1) for p in parts for _ in range(shape[0] // groups)])
    out = {"op": op, "image": image, "n": samples, "x": flat(images), "kernel": flat(kernel), "bias": flat(b) if bias else [],
           "options": dict(options, padding="same" if same else "valid", use_bias=bias, **({"groups": groups} if op == "conv2d" else {})), "scores": scores(kernel, b, h, dead, square), "solved": []}
    for name, solve in (("sparsegpt", sparsegpt), ("obs", obs)):
        for runs, share in ((None, 0.55), (RUNS, 0.4), (RUNS, 0.25)):
            go = int(share * kernel.size)
            k, v = solve(kernel, b, h, dead, go, runs)
            assert (k == 0).sum() == go
            out["solved"].append({"criterion": name, "runs": runs or (), "go": go, "kernel": flat(k), "bias": flat(v)})
    return out


out = {"n": N, "x": flat(x.T), "kernel": [flat(k) for k in kernels], "bias": [flat(b) for b in biases], "block": BLOCK, "damping": DAMPING, "go": GO,
       "scores": {"wanda_row": [], "wanda_kernel": [], "sparsegpt": [], "obs": []}, "solved": {}, "solved_runs": []}
for i in range(2):
    inp = inputs(i, kernels[0], biases[0])
    h, dead = all_rows(hessian(inp), SIZES[i + 1])
    for name, of in scores(kernels[i], biases[i], h, dead, (inp**2).mean(axis=1)).items():
        out["scores"][name].append(of)
for name, solve in (("sparsegpt", sparsegpt), ("obs", obs)):
    k0, b0 = solve(kernels[0], biases[0], *all_rows(hessian(x), 6), GO[0])
    k1, b1 = solve(kernels[1], biases[1], *all_rows(hessian(inputs(1, k0, b0)), 4), GO[1])
    assert [(k == 0).sum() for k in (k0, k1)] == list(GO)
    out["solved"][name] = {"kernel": [flat(k0), flat(k1)], "bias": [flat(b0), flat(b1)]}
    for go in GO_RUNS:
        k0, b0 = solve(kernels[0], biases[0], *all_rows(hessian(x), 6), go[0], RUNS)
        k1, b1 = solve(kernels[1], biases[1], *all_rows(hessian(inputs(1, k0, b0)), 4), go[1], RUNS)
        out["solved_runs"].append({"criterion": name, "go": go, "kernel": [flat(k0), flat(k1)], "bias": [flat(b0), flat(b1)]})
out["convs"] = [
    conv("conv2d", (2, 5, 6), (3, 3, 2), same=True, stride=(2, 2), filters=3, kernel_height=3, kernel_width=2, stride_height=2, stride_width=2),
    conv("conv2d", (4, 5, 5), (4, 2, 2), groups=2, dilation=(2, 2), filters=4, kernel_height=2, kernel_width=2, dilation_height=2, dilation_width=2),
    conv("conv1d", (3, 1, 9), (4, 1, 3), same=True, filters=4, kernel_size=3),
    conv("depthwise_conv2d", (3, 5, 5), (6, 3, 3), groups=3, bias=False, same=True, depth_multiplier=2, kernel_height=3, kernel_width=3),
]
print(json.dumps(out))
