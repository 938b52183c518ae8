#!/usr/bin/env python3
"""Makes tests/golden/keras_conv.json: what the convolutional Keras models of tests/data/keras compute, by PyTorch in double precision, everything in
   Keras' order: samples (n, h, w, c), kernels (kh, kw, in, out), flattened by height, width, channel. Debian's python3-torch:
   /usr/bin/python3 tests/golden/keras_conv.py > tests/golden/keras_conv.json
Weights and samples are drawn by `numbers` here and in tests/core/test_keras_conv.c."""
import json
import os
import sys

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
N = 3
HERE = os.path.dirname(os.path.abspath(__file__))
ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh, "linear": lambda x: x, "softmax": lambda x: torch.softmax(x, -1), "elu": F.elu, "silu": F.silu,
               "swish": F.silu, "softplus": F.softplus}
HARD_SIGMOID = {2: lambda x: torch.clamp(0.2 * x + 0.5, 0, 1), 3: lambda x: F.relu6(x + 3) / 6}


def numbers(name, n):
    """Between -0.5 and 0.5, by name and place."""
    seed = 0
    for c in name.encode():
        seed = (seed * 31 + c) % 2**32
    return torch.tensor([(((seed + i) * 2654435761 % 2**32) ^ ((seed + i) * 2654435761 % 2**32 >> 15)) * 2246822519 % 2**32 / 2**32 - 0.5 for i in range(n)])


class Reader:
    def __init__(self, doc):
        self.version = 2 if "keras_version" in doc else 3
        self.weights = {}

    def weight(self, layer, name, *shape):
        n = 1
        for d in shape:
            n *= d
        full = f"{layer}/{name}"
        w = numbers(full, n)
        if name in ("gamma", "moving_variance", "variance"):
            w = w + 1
        elif len(shape) > 1:
            w = w * 3 / (n / shape[-1]) ** 0.5
        self.weights[full] = list(shape)
        return w.float().double().reshape(shape)

    @staticmethod
    def one(v, rank):
        return [v] * rank if isinstance(v, int) else list(v)

    @staticmethod
    def same(x, size, strides, dilation, value):
        """TensorFlow's padding: the odd one behind. x: (n, c, places...)."""
        pads = []
        for n, k, s, d in zip(x.shape[2:], size, strides, dilation):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            pads = [total // 2, total - total // 2] + pads
        return F.pad(x, pads, value=value)

    def conv(self, c, x, kernel, groups, bias):
        """x and result (n, places..., c)."""
        rank = x.dim() - 2
        strides, dilation = self.one(c["strides"], rank), self.one(c["dilation_rate"], rank)
        x, kernel = x.movedim(-1, 1), kernel.movedim(-1, 0).movedim(-1, 1)
        if c["padding"] == "same":
            x = self.same(x, list(kernel.shape[2:]), strides, dilation, 0.0)
        if c["padding"] == "causal":
            x = F.pad(x, [(kernel.shape[2] - 1) * dilation[0], 0])
        return (F.conv2d if rank == 2 else F.conv1d)(x, kernel, bias, strides, 0, dilation, groups).movedim(1, -1)

    def bias(self, c, n):
        return self.weight(c["name"], "bias", n) if c["use_bias"] else None

    def Conv2D(self, c, x):
        size = self.one(c["kernel_size"], x.dim() - 2)
        w = self.weight(c["name"], "kernel", *size, x.shape[-1] // c["groups"], c["filters"])
        return self.conv(c, x, w, c["groups"], self.bias(c, c["filters"]))

    Conv1D = Conv2D

    def depthwise(self, c, x, name, bias):
        kh, kw = c["kernel_size"]
        n_in, m = x.shape[-1], c["depth_multiplier"]
        w = self.weight(c["name"], name, kh, kw, n_in, m)
        return self.conv(c, x, w.reshape(kh, kw, 1, n_in * m), n_in, bias and self.bias(c, n_in * m))

    def DepthwiseConv2D(self, c, x):
        return self.depthwise(c, x, "depthwise_kernel" if self.version == 2 else "kernel", True)

    def SeparableConv2D(self, c, x):
        x = self.depthwise(c, x, "depthwise_kernel", None)
        w = self.weight(c["name"], "pointwise_kernel", 1, 1, x.shape[-1], c["filters"])
        return self.conv({"strides": 1, "dilation_rate": 1, "padding": "valid"}, x, w, 1, self.bias(c, c["filters"]))

    def pool(self, c, x, kind):
        rank = x.dim() - 2
        size, strides, x = self.one(c["pool_size"], rank), self.one(c["strides"], rank), x.movedim(-1, 1)
        real = torch.ones_like(x)
        if c["padding"] == "same":
            x = self.same(x, size, strides, [1] * rank, -1e300 if kind == "max" else 0.0)
            real = self.same(real, size, strides, [1] * rank, 0.0)
        if kind == "max":
            y = (F.max_pool2d if rank == 2 else F.max_pool1d)(x, size, strides)
        else:
            f = F.avg_pool2d if rank == 2 else F.avg_pool1d
            y = f(x, size, strides) / f(real, size, strides)
        return y.movedim(1, -1)

    def MaxPooling2D(self, c, x): return self.pool(c, x, "max")
    def AveragePooling2D(self, c, x): return self.pool(c, x, "average")
    def MaxPooling1D(self, c, x): return self.pool(c, x, "max")

    def over_places(self, c, x, f):
        y = f(x.reshape(x.shape[0], -1, x.shape[-1]))
        return y.reshape([x.shape[0]] + [1] * (x.dim() - 2) + [x.shape[-1]]) if c["keepdims"] else y

    def GlobalAveragePooling2D(self, c, x): return self.over_places(c, x, lambda v: v.mean(1))
    def GlobalMaxPooling2D(self, c, x): return self.over_places(c, x, lambda v: v.amax(1))

    def BatchNormalization(self, c, x):
        gamma, beta, mean, var = (self.weight(c["name"], k, x.shape[-1]) for k in ("gamma", "beta", "moving_mean", "moving_variance"))
        return gamma * (x - mean) / torch.sqrt(var + c["epsilon"]) + beta

    def Normalization(self, c, x):
        if c["mean"] is None:
            mean, var = (self.weight(c["name"], k, x.shape[-1]) for k in ("mean", "variance"))
        else:
            mean, var = (torch.tensor(v["config"]["value"] if isinstance(v, dict) else v) for v in (c["mean"], c["variance"]))
        deviation = torch.clamp(torch.sqrt(var), min=1e-7)
        return mean + x * deviation if c.get("invert") else (x - mean) / deviation

    def LayerNormalization(self, c, x):
        gamma, beta = (self.weight(c["name"], k, x.shape[-1]) for k in ("gamma", "beta"))
        return gamma * (x - x.mean(-1, True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + c["epsilon"]) + beta

    @staticmethod
    def edges(pairs, x, sign):
        pairs = pairs if isinstance(pairs[0], list) else [pairs]
        flat = [sign * v for pair in reversed(pairs) for v in pair]
        return F.pad(x, [0, 0] + flat)

    def ZeroPadding2D(self, c, x): return self.edges(c["padding"], x, 1)
    def ZeroPadding1D(self, c, x): return self.edges(c["padding"], x, 1)
    def Cropping2D(self, c, x): return self.edges(c["cropping"], x, -1)
    def Cropping1D(self, c, x): return self.edges(c["cropping"], x, -1)

    def Dense(self, c, x):
        return x @ self.weight(c["name"], "kernel", x.shape[-1], c["units"]) + self.bias(c, c["units"])

    def ReLU(self, c, x): return torch.clamp(x, 0, c["max_value"])
    def Softmax(self, c, x): return torch.softmax(x, -1)
    def Activation(self, c, x): return x
    def Dropout(self, c, x): return x
    def SpatialDropout1D(self, c, x): return x
    def SpatialDropout2D(self, c, x): return x
    def Rescaling(self, c, x): return x * torch.tensor(c["scale"]) + torch.tensor(c["offset"])
    def Flatten(self, c, x): return x.reshape(x.shape[0], -1)
    def Reshape(self, c, x): return x.reshape([x.shape[0]] + c["target_shape"])
    def Add(self, c, *x): return sum(x)
    def Multiply(self, c, a, b): return a * b
    def Concatenate(self, c, *x): return torch.cat(x, c["axis"])


def sources(layer):
    """Names of the layers it reads."""
    calls = layer["inbound_nodes"]
    if not calls:
        return []
    if isinstance(calls[0], list):
        return [place[0] for place in calls[0]]
    args = calls[0]["args"]
    return [t["config"]["keras_history"][0] for t in (args[0] if isinstance(args[0], list) else args)]


def run(name):
    with open(f"{HERE}/../data/keras/{name}.json") as f:
        doc = json.load(f)
    r, values, last = Reader(doc), {}, None
    for layer in doc["config"]["layers"]:
        c, cls = layer["config"], layer["class_name"]
        if cls == "InputLayer":
            shape = (c.get("batch_shape") or c.get("batch_input_shape"))[1:]
            n = N
            for d in shape:
                n *= d
            y = numbers("x", n).float().double().reshape([N] + shape) * 4
        else:
            inputs = [values[i] for i in (sources(layer) if "inbound_nodes" in layer else [last])]
            first = c.get("data_format") == "channels_first" or "Normalization" in cls and c["axis"] in (1, [1]) and inputs[0].dim() > 2
            y = getattr(r, cls)(c, *[x.movedim(1, -1) if first else x for x in inputs])
            y = y.movedim(-1, 1) if first and y.dim() > 2 else y
            y = {**ACTIVATIONS, "hard_sigmoid": HARD_SIGMOID[r.version]}[c.get("activation", "linear")](y)
        values[c["name"]], last = y, c["name"]
    return {"model": name, "n": N, "weights": r.weights, "shape": list(y.shape[1:]), "output": [float(f"{v:.9g}") for v in y.reshape(-1).tolist()]}


json.dump([run(f"{m}_keras{v}") for m in ("lenet5", "residual_image", "mobile", "sequence", "places", "first", "ranges") for v in (2, 3)], sys.stdout, separators=(",", ":"))
print()
