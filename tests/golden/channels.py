#!/usr/bin/python3
"""Golden scores of channels, by PyTorch in double precision: writes channels.json beside itself.

A small residual net of convolutions: a stream of four channels that a depthwise convolution reads too, and a branch of three that is flattened. Every
criterion's formula is written here from its paper, on the modules' own tensors."""
import json
import os

import torch
import torch.nn.functional as F

torch.manual_seed(5)
torch.set_default_dtype(torch.float64)
N, C, SIDE = 24, 2, 5


def draw(*shape):
    return torch.randn(*shape).float().double()


# a: 4 filters 3x3, batch norm, relu r; b: 3x3 on r, added: stream s = relu(r + b(r)); c: 3 filters 2x2 on s pooled, relu, flattened; d: depthwise 3x3 on s,
# the mean of each channel; output: dense 3 on (c, d)
a, a_bias, b = draw(4, C, 3, 3) * 0.4, draw(4), draw(4, 4, 3, 3) * 0.3
c, c_bias, d, d_bias = draw(3, 4, 2, 2) * 0.4, draw(3), draw(4, 1, 3, 3) * 0.5, draw(4)
out, out_bias = draw(3, 16) * 0.5, draw(3)
gamma, beta, mean, var = draw(4), draw(4), draw(4), (torch.rand(4) + 0.5).float().double()
a, b, c, d, out = (w.float().double() for w in (a, b, c, d, out))
x = draw(N, C, SIDE, SIDE)
y = torch.arange(N) % 3


def forward(x, gates=(torch.ones(4), torch.ones(3))):
    """gates: on what the readers see of each channel. Also what they see."""
    g, h = gates[0][:, None, None], gates[1][:, None, None]
    r = torch.relu(F.batch_norm(F.conv2d(x, a, a_bias, padding=1), mean, var, gamma, beta, False, 0, 1e-3))
    s = torch.relu(r + F.conv2d(r * g, b, padding=1))
    p = F.max_pool2d(s, 2)
    t = torch.relu(F.conv2d(F.pad(p * g, (0, 1, 0, 1)), c, c_bias))  # "same": the odd zero behind
    m = F.conv2d(s, d, d_bias, groups=4).mean((2, 3))
    z = F.linear(torch.cat([(t * h).flatten(1), m * gates[0]], 1), out, out_bias)
    return [r, p, m], [t], z


def norm(rows, p):
    return (rows.abs() ** p).sum(1) ** (1 / p)


def grads(x, y):
    gate = [torch.ones(4, requires_grad=True), torch.ones(3, requires_grad=True)]
    return torch.autograd.grad(F.cross_entropy(forward(x, gate)[2], y), gate)


def by_channel(values):
    return [torch.cat([v.transpose(0, 1).reshape(v.shape[1], -1) for v in seen], 1) for seen in values]


stream, branch, z = forward(x)
made = [torch.cat([a.flatten(1), b.flatten(1), d.flatten(1)], 1), c.flatten(1)]
read = [torch.cat([b.transpose(0, 1).flatten(1), c.transpose(0, 1).flatten(1), out[:, 12:].T], 1),
        out[:, :12].reshape(3, 3, 4).transpose(0, 1).flatten(1)]
scores = {}
for p in (1, 2):
    scores["incoming_norm_%d" % p] = [norm(m, p) for m in made]
    scores["outgoing_norm_%d" % p] = [norm(m, p) for m in read]
    scores["in_times_out_%d" % p] = [norm(m, p) * norm(q, p) for m, q in zip(made, read)]
    scores["incoming_fan_%d" % p] = [norm(m, p) / m.shape[1] ** (1 / p) for m in made]
    scores["in_times_out_fan_%d" % p] = [norm(m, p) * norm(q, p) / (m.shape[1] * q.shape[1]) ** (1 / p) for m, q in zip(made, read)]
scores["fpgm"] = [torch.cdist(m[None], m[None])[0].sum(1) for m in made]
scores["batch_norm_scale"] = [gamma.abs(), gamma.abs().mean().repeat(3)]
seen = by_channel([stream, branch])
scores["mean_activation"] = [v.abs().mean(1) for v in seen]
scores["apoz_share"] = [(v != 0).double().mean(1) for v in seen]
for n in (N, 1):  # samples of a mini-batch: the squares are averaged
    taylor = [torch.zeros(4), torch.zeros(3)]
    for first in range(0, N, n):
        for k, g in enumerate(grads(x[first:first + n], y[first:first + n])):
            taylor[k] += (g ** 2).detach() * n / N
    scores["taylor_gate_%d" % n] = [t.sqrt() for t in taylor]

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "channels.json"), "w") as f:
    lists = lambda v: v.detach().reshape(-1).tolist()
    json.dump({
        "n": N, "x": lists(x.reshape(N, -1).T), "label": lists(y),
        "weights": {"a/kernel": lists(a), "a/bias": lists(a_bias), "norm/gamma": lists(gamma), "norm/beta": lists(beta), "norm/moving_mean": lists(mean),
                    "norm/moving_variance": lists(var), "b/kernel": lists(b), "c/kernel": lists(c), "c/bias": lists(c_bias), "d/kernel": lists(d),
                    "d/bias": lists(d_bias), "out/kernel": lists(out), "out/bias": lists(out_bias)},
        "output": lists(z.T),
        "scores": {k: [lists(v) for v in s] for k, s in scores.items()},
    }, f, indent=0)
    f.write("\n")
