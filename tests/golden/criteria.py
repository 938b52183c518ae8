#!/usr/bin/env python3
"""Makes tests/golden/criteria.json: scores of the criteria that look at samples or at the whole net, by PyTorch's automatic differentiation in
   double precision. Debian's python3-torch:  /usr/bin/python3 tests/golden/criteria.py > tests/golden/criteria.json
Kernels are [out][in] or [out][in][height][width], images [channels][height][width], samples [n][features]. Mini-batches are of one sample or of all, so that their order does not matter."""
import json

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
N = 12


def flat(t):
    return [float(f"{v:.9g}") for v in t.detach().reshape(-1).tolist()]


class Net:
    """A list of nodes; run(x) computes all values, batch first."""

    def __init__(self, name, features, seed):
        torch.manual_seed(seed)
        self.name, self.features, self.nodes, self.weights, self.widths = name, features, [], {}, [features]
        self.x = torch.randn(N, features).float().double()
        self.masks, self.runs = {}, {}

    def add(self, op, at, width=None, layer=None, **options):
        self.nodes.append({"op": op, "layer": layer or f"{op}_{len(self.widths)}", "in": at, "options": options})
        self.widths.append(width or self.widths[at[0]])
        return len(self.widths) - 1

    def weight(self, name, *shape, learns=True):
        self.weights[name] = (0.5 * torch.randn(*shape)).float().double().requires_grad_(learns)
        return self.weights[name]

    def dense(self, at, units):
        i = self.add("dense", [at], units, units=units)
        self.weight(f"dense_{i}/kernel", units, self.widths[at])
        self.weight(f"dense_{i}/bias", units)
        return i

    def reshape(self, at, *shape):
        return self.add("reshape", [at], shape=shape)

    def conv(self, op, at, width, shape, run, **options):
        """shape: of the kernel; run: torch's options."""
        i = self.add(op, [at], width, **options)
        self.runs[f"{op}_{i}"] = run
        self.weight(f"{op}_{i}/kernel", *shape)
        self.weight(f"{op}_{i}/bias", shape[0])
        return i

    def batch_norm(self, at):
        i, n = self.add("batch_norm", [at]), self.widths[at]
        self.weight(f"batch_norm_{i}/gamma", n), self.weight(f"batch_norm_{i}/beta", n)
        self.weight(f"batch_norm_{i}/moving_mean", n, learns=False)
        self.weights[f"batch_norm_{i}/moving_variance"] = (0.5 + torch.rand(n)).float().double()
        return i

    def mask(self):
        for name, w in self.kernels():
            self.masks[name] = torch.tensor([float(k % 4 != 1) for k in range(w.numel())]).reshape(w.shape)
            w.data *= self.masks[name]

    def kernels(self):
        return [(k, w) for k, w in self.weights.items() if k.endswith("kernel")]

    def run(self, x, linear=False):
        value = [x]
        for node in self.nodes:
            v, o, layer = [value[i] for i in node["in"]], node["options"], node["layer"]
            w = {k.split("/")[1]: t for k, t in self.weights.items() if k.split("/")[0] == layer}
            if node["op"] == "dense":
                y = v[0] @ w["kernel"].abs().T if linear else v[0] @ w["kernel"].T + w["bias"]
            elif node["op"] == "reshape":
                y = v[0].reshape(len(v[0]), *o["shape"])
            elif layer in self.runs:
                f = F.conv1d if node["op"] == "conv1d" else F.conv2d
                y = f(v[0], w["kernel"].abs() if linear else w["kernel"], None if linear else w["bias"], **self.runs[layer])
            elif node["op"] == "batch_norm":
                s = 1 / torch.sqrt(w["moving_variance"] + 1e-3)
                y = v[0] * s * w["gamma"].abs() if linear else (v[0] - w["moving_mean"]) * s * w["gamma"] + w["beta"]
            elif node["op"] == "add":
                y = sum(v)
            elif node["op"] == "concatenate":
                y = torch.cat(v, 1)
            elif linear:
                y = v[0]
            else:
                y = {"relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softmax": lambda t: F.softmax(t, 1),
                     "leaky_relu": lambda t: F.leaky_relu(t, 0.3), "elu": lambda t: F.elu(t, 0.7),
                     "gelu": lambda t: F.gelu(t, approximate="tanh" if o.get("approximate") else "none")}[node["op"]](v[0])
            value.append(y)
        return value


def scores(net, loss_of):
    """loss_of(value, samples, temperature): the mean loss."""
    names = [k for k, _ in net.kernels()]
    w = [t for _, t in net.kernels()]
    mask = [net.masks.get(k, torch.ones_like(t)) for k, t in net.kernels()]

    def gradient(i, temperature=1.0, graph=False):
        return torch.autograd.grad(loss_of(net.run(net.x[i]), i, temperature), w, create_graph=graph)

    def share(s):
        total = sum(t.sum() for t in s)
        return [t / total for t in s]

    everything, out = list(range(N)), []

    def put(conf, s):
        out.append({"criterion": conf, "scores": {k: flat(t) for k, t in zip(names, s)}})

    whole, single = gradient(everything), [gradient([i]) for i in everything]
    put({"type": "snip", "batch_size": 5}, share([(a * g).abs() for a, g in zip(w, whole)]))
    put({"type": "snip", "batch_size": 1, "accumulate": True}, share([sum((a * g[k]).abs() for g in single) for k, a in enumerate(w)]))
    put({"type": "taylor", "batch_size": 100}, share([(a * g) ** 2 for a, g in zip(w, whole)]))
    put({"type": "taylor", "batch_size": 1}, share([sum((a * g[k]) ** 2 for g in single) for k, a in enumerate(w)]))
    for batch in (5, 1):
        put({"type": "obd", "batch_size": batch}, share([sum(g[k] ** 2 for g in single) * a ** 2 for k, a in enumerate(w)]))
    for temperature in (200, 1):
        g = gradient(everything, temperature, True)
        product = sum((a * (a.detach() * m)).sum() for a, m in zip(g, mask))
        hg = torch.autograd.grad(product, w)
        s = [a * h for a, h in zip(w, hg)]
        total = sum(t.sum() for t in s).abs() + 1e-10
        put({"type": "grasp", "batch_size": 5, "temperature": temperature}, [t / total for t in s])
    flow = torch.autograd.grad(net.run(torch.ones(1, net.features), True)[-1].sum(), w)
    put({"type": "synflow", "rounds": 1, "density": 1}, [1 + 0.999 * t for t in flow_shares(w, flow)])
    return out


def flow_shares(w, flow):
    """w dR/dw, what a weight carries, as a share of the most."""
    carried = [a * g for a, g in zip(w, flow)]
    most = max(t.max() for t in carried)
    return [t / most for t in carried]


def finish(net, loss, loss_of, **data):
    return {"name": net.name, "features": net.features, "n": N, "nodes": net.nodes, "loss": loss, "x": flat(net.x),
            "weights": {k: flat(w) for k, w in net.weights.items()}, "masks": {k: [int(v) for v in m.reshape(-1).tolist()] for k, m in net.masks.items()},
            "golden": scores(net, loss_of), **{k: (v.tolist() if v.dtype == torch.int64 else flat(v)) for k, v in data.items()}}


def classifier():
    net = Net("relu, relu, softmax", 6, 1)
    a = net.add("relu", [net.dense(0, 7)])
    a = net.add("relu", [net.dense(a, 5)])
    a = net.dense(a, 4)
    net.add("softmax", [a])
    label = torch.randint(0, 4, (N,))
    return finish(net, "sparse_categorical_crossentropy", lambda v, i, t: F.cross_entropy(v[a] / t, label[i]), label=label)


def residual():
    net = Net("batch norm, gelu, residual, masked", 6, 2)
    a = net.dense(0, 8)
    b = net.add("gelu", [net.batch_norm(a)])
    b = net.add("gelu", [net.dense(b, 8)], approximate=True)
    a = net.add("tanh", [net.add("add", [a, b])])
    a = net.dense(a, 3)
    net.add("softmax", [a])
    net.mask()
    target = F.softmax(torch.randn(N, 3), 1).float().double()
    return finish(net, "categorical_crossentropy", lambda v, i, t: -(target[i] * F.log_softmax(v[a] / t, 1)).sum(1).mean(), target=target)


def binary():
    net = Net("elu, sigmoid", 5, 3)
    a = net.add("elu", [net.dense(0, 6)], alpha=0.7)
    a = net.dense(a, 1)
    net.add("sigmoid", [a])
    label = torch.randint(0, 2, (N,))
    return finish(net, "binary_crossentropy", lambda v, i, t: F.binary_cross_entropy_with_logits(v[a][:, 0] / t, label[i].double()), label=label)


def regression():
    """Without logits the temperature does not count; a softmax inside."""
    net = Net("leaky relu, softmax, concatenate", 5, 4)
    a = net.dense(0, 4)
    b, c = net.add("leaky_relu", [a]), net.add("sigmoid", [a])
    d = net.add("softmax", [net.dense(c, 3)])
    a = net.dense(net.add("concatenate", [b, c, d], 11), 2)
    target = torch.randn(N, 2).float().double()
    return finish(net, "mean_squared_error", lambda v, i, t: F.mse_loss(v[a], target[i]), target=target)


def convolutions():
    """Every kind of them."""
    net = Net("conv2d, depthwise, groups, conv1d", 5, 5)
    a = net.reshape(net.dense(0, 50), 2, 5, 5)
    a = net.conv("conv2d", a, 75, (3, 2, 3, 3), {"padding": 1}, filters=3, kernel_height=3, kernel_width=3, padding="same")
    a = net.add("tanh", [a])
    a = net.conv("depthwise_conv2d", a, 48, (6, 1, 2, 3), {"stride": (1, 2), "groups": 3}, depth_multiplier=2, kernel_height=2, kernel_width=3, stride_width=2)
    a = net.conv("conv2d", a, 20, (5 * 2, 3, 2, 2), {"groups": 2, "dilation": (2, 1)}, filters=10, kernel_height=2, kernel_width=2, groups=2, dilation_height=2)
    a = net.reshape(net.add("relu", [a]), 4, 5)
    a = net.conv("conv1d", a, 15, (5, 4, 3), {}, filters=5, kernel_size=3)
    a = net.dense(net.reshape(a, 15), 4)
    net.add("softmax", [a])
    label = torch.randint(0, 4, (N,))
    return finish(net, "sparse_categorical_crossentropy", lambda v, i, t: F.cross_entropy(v[a] / t, label[i]), label=label)


print("[" + ",\n".join(json.dumps(c) for c in [classifier(), residual(), binary(), regression(), convolutions()]) + "]")
