#!/usr/bin/env python3
"""Makes tests/golden/engine.json: small nets, run forward and backward by PyTorch in double precision. Debian's python3-torch:
   /usr/bin/python3 tests/golden/engine.py > tests/golden/engine.json
Arrays are flat, in our layout: activations [features][n], images [c][h][w][n], kernels [out][in]."""
import json

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
N = 9


def flat(t):
    return [float(f"{v:.9g}") for v in t.detach().reshape(-1).tolist()]


class Net:
    """Nodes are recorded as they are computed; values are batch-first here."""

    def __init__(self, name, shape, seed):
        torch.manual_seed(seed)
        shape = [shape] if isinstance(shape, int) else shape
        self.case = {"name": name, "shape": shape, "n": N, "nodes": [], "weights": {}}
        self.input = torch.randn(N, *shape).float().double()
        self.values, self.weights, self.moving = [self.input], {}, {}

    def add(self, op, value, inputs, layer=None, **options):
        self.case["nodes"].append({"op": op, "layer": layer or f"{op}_{len(self.values)}", "in": inputs, "options": options})
        self.values.append(value)
        return len(self.values) - 1

    def weight(self, name, *shape):
        w = (0.5 * torch.randn(*shape)).float().double().requires_grad_()
        self.weights[name] = w
        return w

    def dense(self, at, units):
        layer = f"dense_{len(self.values)}"
        w = self.weight(layer + "/kernel", units, self.values[at].shape[1])
        b = self.weight(layer + "/bias", units)
        return self.add("dense", self.values[at] @ w.T + b, [at], layer, units=units)

    def batch_norm(self, at, training):
        layer, x = f"batch_norm_{len(self.values)}", self.values[at]
        gamma, beta = self.weight(layer + "/gamma", x.shape[1]), self.weight(layer + "/beta", x.shape[1])
        mean0 = (0.3 * torch.randn(x.shape[1])).float().double()
        var0 = (0.5 + torch.rand(x.shape[1])).float().double()
        over = [d for d in range(x.dim()) if d != 1]
        self.moving[layer + "/moving_mean"] = (mean0, 0.9 * mean0 + 0.1 * x.mean(over))
        self.moving[layer + "/moving_variance"] = (var0, 0.9 * var0 + 0.1 * x.var(over, unbiased=False))
        y = F.batch_norm(x, mean0.clone(), var0.clone(), gamma, beta, training, 0.1, 1e-3)
        return self.add("batch_norm", y, [at], layer, momentum=0.9)

    def layer_norm(self, at):
        layer, x = f"layer_norm_{len(self.values)}", self.values[at]
        gamma, beta = self.weight(layer + "/gamma", x.shape[1]), self.weight(layer + "/beta", x.shape[1])
        y = F.layer_norm(x.movedim(1, -1), [x.shape[1]], gamma, beta, 1e-3).movedim(-1, 1)
        return self.add("layer_norm", y, [at], layer)

    def finish(self, loss_name, loss, training=True, label=None, target=None):
        for w in self.weights.values():
            w.grad = None
        loss.backward()
        c = self.case
        c["training"], c["loss"], c["value"] = training, loss_name, float(loss)
        c["x"], c["output"] = flat(self.input.movedim(0, -1)), flat(self.values[-1].T)
        if label is not None:
            c["label"] = label.tolist()
        if target is not None:
            c["target"] = flat(target.T)
        c["weights"] = {k: flat(w) for k, w in self.weights.items()}
        c["gradients"] = {k: flat(w.grad) for k, w in self.weights.items()}
        c["weights"].update({k: flat(v[0]) for k, v in self.moving.items()})
        c["moved"] = {k: flat(v[1]) for k, v in self.moving.items()} if training else {}
        return c


def classifier():
    net = Net("relu, relu, softmax", 6, 1)
    a = net.dense(0, 7)
    a = net.add("relu", F.relu(net.values[a]), [a])
    a = net.dense(a, 5)
    a = net.add("relu", F.relu(net.values[a]), [a])
    a = net.dense(a, 4)
    net.add("softmax", F.softmax(net.values[a], 1), [a])
    label = torch.randint(0, 4, (N,))
    return net.finish("sparse_categorical_crossentropy", F.cross_entropy(net.values[a], label), label=label)


def residual(training):
    net = Net("batch norm, gelu, residual" + ("" if training else ", not training"), 6, 2)
    a = net.dense(0, 8)
    b = net.batch_norm(a, training)
    b = net.add("gelu", F.gelu(net.values[b]), [b])
    b = net.dense(b, 8)
    x = net.values[b]
    b = net.add("gelu", 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x ** 3))), [b], approximate=True)
    a = net.add("add", net.values[a] + net.values[b], [a, b])
    a = net.dense(a, 3)
    net.add("softmax", F.softmax(net.values[a], 1), [a])
    target = F.softmax(torch.randn(N, 3), 1).float().double()
    loss = -(target * F.log_softmax(net.values[a], 1)).sum(1).mean()
    return net.finish("categorical_crossentropy", loss, training, target=target)


def binary():
    net = Net("tanh, elu, sigmoid", 5, 3)
    a = net.dense(0, 6)
    a = net.add("tanh", torch.tanh(net.values[a]), [a])
    a = net.dense(a, 4)
    a = net.add("elu", F.elu(net.values[a], 0.7), [a], alpha=0.7)
    a = net.dense(a, 1)
    net.add("sigmoid", torch.sigmoid(net.values[a]), [a])
    label = torch.randint(0, 2, (N,))
    loss = F.binary_cross_entropy_with_logits(net.values[a][:, 0], label.double())
    return net.finish("binary_crossentropy", loss, label=label)


def regression():
    net = Net("leaky relu, concatenate", 5, 4)
    a = net.dense(0, 4)
    b = net.add("leaky_relu", F.leaky_relu(net.values[a], 0.3), [a])
    c = net.add("sigmoid", torch.sigmoid(net.values[a]), [a])
    a = net.add("concatenate", torch.cat([net.values[b], net.values[c], net.values[0]], 1), [b, c, 0])
    a = net.dense(a, 2)
    target = torch.randn(N, 2).float().double()
    return net.finish("mean_squared_error", F.mse_loss(net.values[a], target), target=target)


def probabilities():
    """Keras' categorical cross-entropy of outputs that are no softmax: divided by their sum."""
    net = Net("cross-entropy from probabilities", 4, 5)
    a = net.dense(0, 3)
    a = net.add("sigmoid", torch.sigmoid(net.values[a]), [a])
    label = torch.randint(0, 3, (N,))
    p = net.values[a] / net.values[a].sum(1, keepdim=True)
    return net.finish("sparse_categorical_crossentropy", F.nll_loss(torch.log(p), label), label=label)


def images(training):
    net = Net("batch norm of images, pooling" + ("" if training else ", not training"), [3, 8, 7], 6)
    a = net.batch_norm(0, training)
    a = net.add("relu", F.relu(net.values[a]), [a])
    a = net.add("max_pool2d", F.max_pool2d(net.values[a], (2, 3), (2, 1)), [a], pool_height=2, pool_width=3, stride_width=1)
    b = net.batch_norm(a, training)
    a = net.add("add", net.values[a] + net.values[b], [a, b])
    a = net.add("average_pool2d", F.avg_pool2d(net.values[a], (2, 2), (1, 2)), [a], stride_height=1)
    a = net.add("reshape", net.values[a].flatten(1), [a])
    a = net.dense(a, 4)
    net.add("softmax", F.softmax(net.values[a], 1), [a])
    label = torch.randint(0, 4, (N,))
    return net.finish("sparse_categorical_crossentropy", F.cross_entropy(net.values[a], label), training, label=label)


def gated():
    """Squeeze-and-excitation of a padded, normalised image; pooling with Keras' padding "same"."""
    net = Net("layer norm, padding, a gate, global pooling", [4, 5, 5], 7)
    a = net.layer_norm(0)
    a = net.add("zero_pad2d", F.pad(net.values[a], (0, 2, 1, 0)), [a], pad_top=1, pad_bottom=0, pad_left=0, pad_right=2)
    a = net.add("silu", F.silu(net.values[a]), [a])
    b = net.add("global_average_pool", net.values[a].mean((2, 3)), [a])
    b = net.dense(b, 4)
    b = net.add("hard_sigmoid", F.hardsigmoid(net.values[b]), [b])
    a = net.add("multiply", net.values[a] * net.values[b][:, :, None, None], [a, b])
    b = net.layer_norm(a)
    x = net.values[b]
    # 6 x 7 at a stride of 2 and a window of 3: 3 x 4 outputs; one row is missing below, and one column on both sides
    c = net.add("max_pool2d", F.max_pool2d(F.pad(x, (1, 1, 0, 1), value=-torch.inf), 3, 2), [b], pool_height=3, pool_width=3, stride_height=2,
                stride_width=2, padding="same")
    count = F.avg_pool2d(F.pad(torch.ones_like(x), (1, 1, 0, 1)), 3, 2)
    d = net.add("average_pool2d", F.avg_pool2d(F.pad(x, (1, 1, 0, 1)), 3, 2) / count, [b], pool_height=3, pool_width=3, stride_height=2,
                stride_width=2, padding="same")
    a = net.add("add", net.values[c] + net.values[d], [c, d])
    a = net.add("global_max_pool", net.values[a].amax((2, 3)), [a])
    a = net.dense(a, 2)
    target = torch.randn(N, 2).float().double()
    return net.finish("mean_squared_error", F.mse_loss(net.values[a], target), target=target)


def convolutions():
    """Strides, dilation, groups, Keras' padding "same" (the odd zero behind), each channel for itself."""
    net = Net("convolutions", [4, 9, 8], 9)
    w, b = net.weight("a/kernel", 6, 2, 3, 4), net.weight("a/bias", 6)
    y = F.conv2d(F.pad(net.values[0], (1, 2, 1, 1)), w, b, (2, 1), groups=2)  # 9 x 8 to 5 x 8: 2 and 3 zeros
    a = net.add("conv2d", y, [0], "a", filters=6, kernel_height=3, kernel_width=4, stride_height=2, groups=2, padding="same")
    a = net.add("relu", F.relu(net.values[a]), [a])
    w, b = net.weight("b/kernel", 12, 1, 2, 3), net.weight("b/bias", 12)
    y = F.conv2d(net.values[a], w, b, dilation=(2, 1), groups=6)
    a = net.add("depthwise_conv2d", y, [a], "b", kernel_height=2, kernel_width=3, depth_multiplier=2, dilation_height=2)
    w = net.weight("c/kernel", 9, 12, 3, 3)
    a = net.add("conv2d", F.conv2d(net.values[a], w, padding=1), [a], "c", filters=9, kernel_height=3, kernel_width=3, padding="same", use_bias=False)
    a = net.add("global_average_pool", net.values[a].mean((2, 3)), [a])
    a = net.dense(a, 3)
    target = torch.randn(N, 3).float().double()
    return net.finish("mean_squared_error", F.mse_loss(net.values[a], target), target=target)


def sequence():
    net = Net("convolutions of sequences", [3, 20], 10)
    w, b = net.weight("a/kernel", 4, 3, 3), net.weight("a/bias", 4)
    a = net.add("conv1d", F.conv1d(net.values[0], w, b, 2, dilation=2), [0], "a", filters=4, kernel_size=3, stride=2, dilation=2)
    a = net.add("relu", F.relu(net.values[a]), [a])
    w = net.weight("b/kernel", 6, 2, 4)
    y = F.conv1d(F.pad(net.values[a], (1, 2)), w, None, groups=2)
    a = net.add("conv1d", y, [a], "b", filters=6, kernel_size=4, groups=2, padding="same", use_bias=False)
    a = net.add("reshape", net.values[a].flatten(1), [a])
    a = net.dense(a, 2)
    target = torch.randn(N, 2).float().double()
    return net.finish("mean_squared_error", F.mse_loss(net.values[a], target), target=target)


def activations():
    net = Net("other activations", 5, 8)
    a = net.dense(0, 6)
    x = net.values[a]
    b = [net.add("silu", F.silu(x), [a]), net.add("hard_sigmoid", F.hardsigmoid(x), [a]), net.add("hard_silu", F.hardswish(x), [a]),
         net.add("softplus", F.softplus(x), [a]), net.add("softsign", F.softsign(x), [a]), net.add("selu", F.selu(x), [a]),
         net.add("exponential", torch.exp(x), [a])]
    c = net.add("multiply", net.values[b[0]] * net.values[b[3]] * net.values[b[5]], [b[0], b[3], b[5]])
    b = net.add("concatenate", torch.cat([net.values[i] for i in b + [c]], 1), b + [c])
    a = net.dense(b, 2)
    target = torch.randn(N, 2).float().double()
    return net.finish("mean_squared_error", F.mse_loss(net.values[a], target), target=target)


print("[" + ",\n".join(json.dumps(c) for c in [classifier(), residual(True), residual(False), binary(), regression(), probabilities(), images(True),
                                               images(False), gated(), activations(), convolutions(), sequence()]) + "]")
