#!/usr/bin/python3
"""Golden scores of neurons, by PyTorch in double precision: writes neurons.json beside itself.

A residual net of two merged bundles and a concatenation; every criterion's formula is written here from its paper, on the modules' own tensors."""
import json
import os

import torch

torch.manual_seed(3)
torch.set_default_dtype(torch.float64)
N, F = 24, 5


def linear(i, o, bias=True):
    m = torch.nn.Linear(i, o, bias=bias)
    with torch.no_grad():
        m.weight.copy_((m.weight * 2).float().double())
        if bias:
            m.bias.normal_()
            m.bias.copy_(m.bias.float().double())
    return m


# a: dense 6, batch norm, relu; b: dense 6 on it, added: stream s = relu(a + b); c: dense 4, tanh, on s; output: dense 3 on (s, c)
a, b, c, out = linear(F, 6), linear(6, 6, bias=False), linear(6, 4), linear(10, 3)
gamma, beta, mean, var = (torch.randn(6).float().double(), torch.randn(6).float().double(), torch.randn(6).float().double(),
                          (torch.rand(6) + 0.5).float().double())
x = torch.randn(N, F).float().double()
y = torch.arange(N) % 3


def forward(x):
    z = (a(x) - mean) / torch.sqrt(var + 1e-3) * gamma + beta
    r = torch.relu(z)
    s = torch.relu(r + b(r))
    t = torch.tanh(c(s))
    return r, s, t, out(torch.cat([s, t], 1))


def norm(rows, p):
    return (rows.abs() ** p).sum(1) ** (1 / p)


def grads(x, y):
    """Sum over the batch of a dL/da, with a gate on what the readers see of each neuron."""
    gate = [torch.ones(6, requires_grad=True), torch.ones(4, requires_grad=True)]
    z = (a(x) - mean) / torch.sqrt(var + 1e-3) * gamma + beta
    r = torch.relu(z)
    s = torch.relu(r + b(r * gate[0]))
    t = torch.tanh(c(s * gate[0]))
    loss = torch.nn.functional.cross_entropy(out(torch.cat([s * gate[0], t * gate[1]], 1)), y)
    return torch.autograd.grad(loss, gate)


W = {"a": a.weight, "b": b.weight, "c": c.weight, "out": out.weight}
r, s, t, z = forward(x)
made = [torch.cat([a.weight, b.weight], 1), c.weight]                               # per neuron, what makes it
read = [torch.cat([b.weight, c.weight, out.weight[:, :6]], 0).T, out.weight[:, 6:].T]  # and what reads it
scores = {}
for p in (1, 2):
    scores["incoming_norm_%d" % p] = [norm(m, p) for m in made]
    scores["outgoing_norm_%d" % p] = [norm(m, p) for m in read]
    scores["in_times_out_%d" % p] = [norm(m, p) * norm(q, p) for m, q in zip(made, read)]
    scores["incoming_fan_%d" % p] = [norm(m, p) / m.shape[1] ** (1 / p) for m in made]
    scores["in_times_out_fan_%d" % p] = [norm(m, p) * norm(q, p) / (m.shape[1] * q.shape[1]) ** (1 / p) for m, q in zip(made, read)]
scores["fpgm"] = [torch.cdist(m[None], m[None])[0].sum(1) for m in made]
scores["batch_norm_scale"] = [gamma.abs(), gamma.abs().mean().repeat(4)]
# what the readers see: r (b), s (c and out), t (out)
seen = [[r, s, s], [t]]
scores["mean_activation"] = [sum(v.abs().mean(0) for v in g) / len(g) for g in seen]
scores["apoz_share"] = [sum((v != 0).double().mean(0) for v in g) / len(g) for g in seen]
for n in (N, 1):  # samples of a mini-batch: the squares are averaged
    taylor = [torch.zeros(6), torch.zeros(4)]
    for first in range(0, N, n):
        for k, g in enumerate(grads(x[first:first + n], y[first:first + n])):
            taylor[k] += (g ** 2).detach() * n / N
    scores["taylor_gate_%d" % n] = [t.sqrt() for t in taylor]

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "neurons.json"), "w") as f:
    lists = lambda v: v.detach().tolist()
    json.dump({
        "n": N, "x": lists(x.T.reshape(-1)), "label": lists(y),
        "weights": {"a/kernel": lists(a.weight.reshape(-1)), "a/bias": lists(a.bias), "norm/gamma": lists(gamma), "norm/beta": lists(beta),
                    "norm/moving_mean": lists(mean), "norm/moving_variance": lists(var), "b/kernel": lists(b.weight.reshape(-1)),
                    "c/kernel": lists(c.weight.reshape(-1)), "c/bias": lists(c.bias), "out/kernel": lists(out.weight.reshape(-1)),
                    "out/bias": lists(out.bias)},
        "output": lists(z.T.reshape(-1)),
        "scores": {k: [lists(v) for v in s] for k, s in scores.items()},
    }, f, indent=0)
    f.write("\n")
