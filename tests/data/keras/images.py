#!/usr/bin/env python3
"""Writes the convolutional examples beside it, as model.to_json() of Keras 2 (TensorFlow 2.11) and Keras 3 prints them:
   python3 tests/data/keras/images.py
   python3 tests/data/keras/images.py resnet20 3 > resnet20.json     (He et al. 2016, 6.9: 3x32x32, version 3)"""
import json
import os
import sys


def pair(v):
    return [v, v] if isinstance(v, int) else list(v)


class Model:
    """Shapes are kept with the channels last; first: the model has them first."""
    def __init__(self, version, name, functional, shape, first=False):
        self.v, self.name, self.functional, self.layers, self.shapes, self.first = version, name, functional, [], {}, first
        self.format = "channels_first" if first else "channels_last"
        config = {("batch_shape" if version == 3 else "batch_input_shape"): self.turned([None] + shape), "dtype": "float32", "sparse": False, "ragged": False,
                  "name": "input_layer" if version == 3 else "input_1"}
        self.last = self.input = config["name"]
        self.shapes[self.input] = [None] + shape
        self.put("InputLayer", config, [])

    def turned(self, s):
        return [s[0], s[-1]] + s[1:-1] if self.first and len(s) > 2 else s

    def init(self, name, config=None):
        config = {} if config is None else config
        if self.v == 3:
            return {"module": "keras.initializers", "class_name": name, "config": config, "registered_name": None}
        return {"class_name": name, "config": config}

    def dtype(self):
        return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None} if self.v == 3 else "float32"

    def tensor(self, name):
        return {"class_name": "__keras_tensor__", "config": {"shape": self.turned(self.shapes[name]), "dtype": "float32", "keras_history": [name, 0, 0]}}

    def put(self, cls, config, inputs):
        layer = {"module": "keras.layers"} if self.v == 3 else {}
        layer.update({"class_name": cls, "config": config})
        if self.v == 3:
            layer["registered_name"] = None
            if inputs and cls not in ("Dropout", "Flatten", "Activation", "ReLU"):
                shapes = [self.turned(self.shapes[i]) for i in inputs]
                layer["build_config"] = {"input_shape": shapes if len(shapes) > 1 else shapes[0]}
        if self.functional:
            layer["name"] = config["name"]
            if self.v == 2:
                layer["inbound_nodes"] = [[[i, 0, 0, {}] for i in inputs]] if inputs else []
            else:
                args = [self.tensor(i) for i in inputs]
                kwargs = {"training": False} if cls == "Dropout" else {"mask": None} if cls == "BatchNormalization" else {}
                layer["inbound_nodes"] = [{"args": [args] if len(args) > 1 else args, "kwargs": kwargs}] if inputs else []
        self.layers.append(layer)

    def add(self, cls, name, config, shape, inputs=None):
        inputs = inputs or [self.last]
        whole = {"name": name, "trainable": True, "dtype": self.dtype()}
        whole.update(config)
        self.shapes[name] = [None] + shape
        self.put(cls, whole, inputs)
        self.last = name
        return name

    def shape(self, inputs):
        return self.shapes[inputs[0] if inputs else self.last][1:]

    def window(self, size, strides, padding, dilation=(1, 1)):
        return {"kernel_size": pair(size), "strides": pair(strides), "padding": padding, "data_format": self.format, "dilation_rate": pair(dilation)}

    def places(self, shape, size, strides, padding, dilation=(1, 1)):
        out = []
        for n, k, s, d in zip(shape, size, strides, dilation):
            out.append(-(-n // s) if padding in ("same", "causal") else (n - (k - 1) * d - 1) // s + 1)
        return out

    def regular(self, kinds):
        keys = [k + "_regularizer" for k in kinds] + ["activity_regularizer"] + [k + "_constraint" for k in kinds]
        return {k: None for k in keys}

    def conv(self, name, filters, size, strides=1, padding="valid", activation="linear", bias=True, dilation=1, groups=1, init="GlorotUniform", inputs=None):
        rank = len(self.shape(inputs)) - 1
        size, strides, dilation = (pair(v)[:rank] for v in (size, strides, dilation))
        config = {"filters": filters, "kernel_size": size, "strides": strides, "padding": padding, "data_format": self.format, "dilation_rate": dilation,
                  "groups": groups, "activation": activation, "use_bias": bias, "kernel_initializer": self.init(init, {"seed": None}),
                  "bias_initializer": self.init("Zeros")}
        config.update(self.regular(["kernel", "bias"]))
        places = self.places(self.shape(inputs)[:-1], size, strides, padding, dilation)
        return self.add("Conv2D" if rank == 2 else "Conv1D", name, config, places + [filters], inputs)

    def depthwise(self, name, size, strides=1, padding="valid", multiplier=1, activation="linear", bias=True, inputs=None):
        config = self.window(size, strides, padding)
        if self.v == 2:
            config["groups"] = 1
        config.update({"activation": activation, "use_bias": bias, "bias_initializer": self.init("Zeros"), "depth_multiplier": multiplier,
                       "depthwise_initializer": self.init("GlorotUniform", {"seed": None})})
        config.update(self.regular(["depthwise", "bias"]))
        s = self.shape(inputs)
        return self.add("DepthwiseConv2D", name, config, self.places(s[:-1], pair(size), pair(strides), padding) + [s[-1] * multiplier], inputs)

    def separable(self, name, filters, size, strides=1, padding="valid", multiplier=1, activation="linear", bias=True, inputs=None):
        config = {"filters": filters}
        config.update(self.window(size, strides, padding))
        if self.v == 2:
            config.update({"groups": 1, "kernel_initializer": self.init("GlorotUniform", {"seed": None}), "kernel_regularizer": None, "kernel_constraint": None})
        config.update({"activation": activation, "use_bias": bias, "bias_initializer": self.init("Zeros"), "depth_multiplier": multiplier})
        config.update({k + "_initializer": self.init("GlorotUniform", {"seed": None}) for k in ("depthwise", "pointwise")})
        config.update(self.regular(["depthwise", "pointwise", "bias"]))
        s = self.shape(inputs)
        return self.add("SeparableConv2D", name, config, self.places(s[:-1], pair(size), pair(strides), padding) + [filters], inputs)

    def standard(self, name, mean=None, variance=None, axis=None, invert=False):
        if self.v == 3 and isinstance(mean, list):
            mean, variance = ({"class_name": "__numpy__", "config": {"value": x, "dtype": "float64"}} for x in (mean, variance))
        config = {"axis": [-1] if axis is None else axis, "mean": mean, "variance": variance}
        if self.v == 3 or invert:
            config["invert"] = invert
        return self.same("Normalization", name, config)

    def pool(self, cls, name, size, strides=None, padding="valid", inputs=None):
        rank = len(self.shape(inputs)) - 1
        size = pair(size)[:rank]
        strides = size if strides is None else pair(strides)[:rank]
        config = {"pool_size": size, "padding": padding, "strides": strides, "data_format": self.format}
        s = self.shape(inputs)
        return self.add(cls, name, config, self.places(s[:-1], size, strides, padding) + s[-1:], inputs)

    def global_pool(self, cls, name, keepdims=False, inputs=None):
        s = self.shape(inputs)
        return self.add(cls, name, {"data_format": self.format, "keepdims": keepdims}, ([1] * (len(s) - 1) if keepdims else []) + s[-1:], inputs)

    def axis(self, s):
        return (1 if self.first else -1) if self.v == 3 else [1 if self.first else len(s)]

    def norm(self, name, inputs=None):
        s = self.shape(inputs)
        config = {"axis": self.axis(s), "momentum": 0.99, "epsilon": 0.001, "center": True, "scale": True,
                  "beta_initializer": self.init("Zeros"), "gamma_initializer": self.init("Ones"), "moving_mean_initializer": self.init("Zeros"),
                  "moving_variance_initializer": self.init("Ones"), "beta_regularizer": None, "gamma_regularizer": None, "beta_constraint": None,
                  "gamma_constraint": None}
        if self.v == 3:
            config["synchronized"] = False
        return self.add("BatchNormalization", name, config, s, inputs)

    def layer_norm(self, name, inputs=None):
        s = self.shape(inputs)
        config = {"axis": self.axis(s), "epsilon": 0.001, "center": True, "scale": True, "beta_initializer": self.init("Zeros"),
                  "gamma_initializer": self.init("Ones"), "beta_regularizer": None, "gamma_regularizer": None, "beta_constraint": None,
                  "gamma_constraint": None}
        return self.add("LayerNormalization", name, config, s, inputs)

    def same(self, cls, name, config=None, inputs=None):
        return self.add(cls, name, config or {}, self.shape(inputs), inputs)

    def relu(self, name, inputs=None):
        return self.same("Activation", name, {"activation": "relu"}, inputs)

    def edges(self, cls, name, edges, sign, inputs=None):
        s = self.shape(inputs)
        pairs = [list(e) for e in edges]
        config = {"padding" if sign > 0 else "cropping": pairs if len(s) == 3 else pairs[0]}
        if len(s) == 3:
            config["data_format"] = self.format
        return self.add(cls, name, config, [n + sign * sum(e) for n, e in zip(s, pairs)] + s[-1:], inputs)

    def flatten(self, name, inputs=None):
        n = 1
        for d in self.shape(inputs):
            n *= d
        return self.add("Flatten", name, {"data_format": self.format}, [n], inputs)

    def join(self, name, inputs, axis=-1):
        s = list(self.shape(inputs))
        at = -1 if self.first else axis if axis < 0 else axis - 1
        s[at] = sum(self.shapes[i][-1 if self.first else axis] for i in inputs)
        return self.add("Concatenate", name, {"axis": axis}, s, inputs)

    def dense(self, name, units, activation="linear", inputs=None):
        config = {"units": units, "activation": activation, "use_bias": True, "kernel_initializer": self.init("GlorotUniform", {"seed": None}),
                  "bias_initializer": self.init("Zeros")}
        config.update(self.regular(["kernel", "bias"]))
        return self.add("Dense", name, config, self.shape(inputs)[:-1] + [units], inputs)

    def text(self):
        config = {"name": self.name, "trainable": True} if self.v == 3 else {"name": self.name}
        if self.v == 3 and not self.functional:
            config["dtype"] = self.dtype()
        config["layers"] = self.layers
        if self.functional:
            one = self.v == 3
            config["input_layers"] = [self.input, 0, 0] if one else [[self.input, 0, 0]]
            config["output_layers"] = [self.last, 0, 0] if one else [[self.last, 0, 0]]
        elif self.v == 3:
            config["build_input_shape"] = self.turned(self.shapes[self.input])
        if self.v == 2:
            out = {"class_name": "Functional" if self.functional else "Sequential", "config": config, "keras_version": "2.11.0", "backend": "tensorflow"}
        else:
            out = {"module": "keras.src.models.functional" if self.functional else "keras", "class_name": "Functional" if self.functional else "Sequential",
                   "config": config, "registered_name": "Functional" if self.functional else "Sequential", "build_config": {"input_shape": self.turned(self.shapes[self.input])}}
        return json.dumps(out)


def lenet5(v):
    """LeNet-5 as in Caffe: 20-50-500."""
    m = Model(v, "lenet5", False, [28, 28, 1])
    m.conv("conv2d", 20, 5, activation="relu")
    m.pool("MaxPooling2D", "max_pooling2d", 2)
    m.conv("conv2d_1", 50, 5, activation="relu")
    m.pool("MaxPooling2D", "max_pooling2d_1", 2)
    m.flatten("flatten")
    m.dense("dense", 500, "relu")
    m.dense("dense_1", 10, "softmax")
    return m.text()


def residual(v, shape, widths, blocks, name):
    """Post-activation residual blocks; where the width changes, the shortcut is a 1x1 convolution."""
    m = Model(v, name, True, shape)
    count = {"conv2d": 0, "batch_normalization": 0, "activation": 0, "add": 0}

    def next_name(kind):
        count[kind] += 1
        return kind if count[kind] == 1 else f"{kind}_{count[kind] - 1}"

    def block(width, size, stride, inputs=None):
        m.conv(next_name("conv2d"), width, size, stride, "same", bias=False, init="HeNormal", inputs=inputs)
        return m.norm(next_name("batch_normalization"))

    block(widths[0], 3, 1)
    x = m.relu(next_name("activation"))
    for i, width in enumerate(widths):
        for k in range(blocks):
            stride = 2 if i > 0 and k == 0 else 1
            block(width, 3, stride, [x])
            m.relu(next_name("activation"))
            y = block(width, 3, 1)
            if stride == 2:
                x = block(width, 1, 2, [x])
            m.same("Add", next_name("add"), {}, [y, x])
            x = m.relu(next_name("activation"))
    m.global_pool("GlobalAveragePooling2D", "global_average_pooling2d")
    m.dense("dense", 10, "softmax")
    return m.text()


def mobile(v):
    """Every convolution and pooling of images, with options; channels joined; flattened images normalised, joined and read."""
    m = Model(v, "mobile", True, [9, 8, 3])
    m.conv("conv2d", 6, (3, 2), (2, 1), "same", bias=False)
    m.norm("batch_normalization")
    m.same("ReLU", "re_lu", {"max_value": 6.0, "negative_slope": 0.0, "threshold": 0.0})
    m.edges("Cropping2D", "cropping2d", [(0, 1), (1, 0)], -1)
    a = m.edges("ZeroPadding2D", "zero_padding2d", [(1, 0), (0, 1)], 1)
    m.global_pool("GlobalAveragePooling2D", "global_average_pooling2d", True)
    m.conv("conv2d_3", 2, 1, activation="silu" if v == 3 else "swish")
    m.conv("conv2d_4", 6, 1, activation="hard_sigmoid")
    a = m.same("Multiply", "multiply", {}, [a, m.last])
    m.layer_norm("layer_normalization")
    m.depthwise("depthwise_conv2d", 3, padding="same", multiplier=2, activation="tanh")
    m.conv("conv2d_1", 4, 2, groups=2, padding="same", activation="relu")
    b = m.pool("MaxPooling2D", "max_pooling2d", (3, 2), 1, "same")
    c = m.join("concatenate", [a, b], -1 if v == 3 else 3)
    m.separable("separable_conv2d", 5, 3, 2, "same", 2, "elu")
    m.pool("AveragePooling2D", "average_pooling2d", 2, 1, "same")
    d = m.same("Dropout", "dropout", {"rate": 0.3, "seed": None, "noise_shape": None})
    m.conv("conv2d_2", 7, 2, dilation=2, padding="same", inputs=[c])
    m.pool("AveragePooling2D", "average_pooling2d_1", (2, 2))
    e = m.flatten("flatten")
    m.norm("batch_normalization_1")
    m.layer_norm("layer_normalization_1")
    f = m.dense("dense", 6, "softplus")
    m.flatten("flatten_1", inputs=[d])
    g = m.last
    h = m.join("concatenate_1", [e, g])
    i = m.dense("dense_1", 5, "tanh")
    j = m.global_pool("GlobalMaxPooling2D", "global_max_pooling2d", inputs=[c])
    m.join("concatenate_2", [f, i, j])
    m.dense("dense_2", 4, "softmax")
    return m.text()


def sequence(v):
    """Convolutions of a sequence; an image that is given another shape; an output that is an image of several channels."""
    m = Model(v, "sequence", False, [12, 3])
    m.conv("conv1d", 4, 3, padding="same", activation="relu")
    m.pool("MaxPooling1D", "max_pooling1d", 2)
    m.conv("conv1d_1", 6, 2, 1, dilation=2)
    m.edges("ZeroPadding1D", "zero_padding1d", [(1, 1)], 1)
    m.edges("Cropping1D", "cropping1d", [(0, 2)], -1)
    m.norm("batch_normalization")
    m.add("Reshape", "reshape", {"target_shape": [2, 3, 4]}, [2, 3, 4])
    m.conv("conv2d", 3, 2, padding="same")
    m.same("Softmax", "softmax", {"axis": -1})
    m.pool("AveragePooling2D", "average_pooling2d", (1, 3))
    return m.text()


def places(v):
    """Numbers rescaled; dense layers at each step of a sequence, of samples as they come and behind convolutions; causal convolutions."""
    m = Model(v, "places", False, [10, 3])
    m.same("Rescaling", "rescaling", {"scale": 0.25, "offset": -1.0})
    m.dense("dense", 4, "tanh")
    m.conv("conv1d", 5, 3, padding="causal", dilation=2, activation="relu")
    m.same("SpatialDropout1D", "spatial_dropout1d", {"rate": 0.3, "seed": None, "noise_shape": None})
    m.dense("dense_1", 6, "softmax")
    m.conv("conv1d_1", 4, 3, 2, padding="causal")
    m.norm("batch_normalization")
    m.dense("dense_2", 3)
    m.same("Rescaling", "rescaling_1", {"scale": 3.0, "offset": 0.5})
    m.flatten("flatten")
    m.dense("dense_3", 4, "softmax")
    return m.text()


def first(v):
    """Channels first: of convolutions, pooling, padding and norms; joined, flattened, and a softmax along the last axis."""
    m = Model(v, "first", True, [9, 8, 3], True)
    m.same("Rescaling", "rescaling", {"scale": 0.5, "offset": 0.0})
    m.edges("ZeroPadding2D", "zero_padding2d", [(1, 0), (0, 1)], 1)
    m.conv("conv2d", 6, (3, 2), (2, 1), "same", bias=False)
    m.norm("batch_normalization")
    a = m.relu("activation")
    m.depthwise("depthwise_conv2d", 3, padding="same", multiplier=2)
    m.same("SpatialDropout2D", "spatial_dropout2d", {"rate": 0.3, "seed": None, **({"data_format": m.format} if v == 3 else {"noise_shape": None})})
    m.layer_norm("layer_normalization")
    m.separable("separable_conv2d", 6, 3, 1, "same", 1, "elu")
    b = m.same("Add", "add", {}, [a, m.last])
    m.pool("MaxPooling2D", "max_pooling2d", (3, 2), 1, "same", [a])
    m.join("concatenate", [b, m.last], 1)
    m.same("Softmax", "softmax", {"axis": -1})
    c = m.pool("AveragePooling2D", "average_pooling2d", 2)
    m.flatten("flatten")
    m.dense("dense", 5, "tanh")
    d = m.last
    m.global_pool("GlobalMaxPooling2D", "global_max_pooling2d", inputs=[c])
    m.join("concatenate_1", [d, m.last], -1 if v == 3 else 1)
    m.dense("dense_1", 4, "softmax")
    return m.text()


def ranges(v):
    """Numbers brought to a range channel by channel: by lists, by statistics that are weights or stand in the architecture, of images and flattened ones."""
    m = Model(v, "ranges", False, [5, 6, 3])
    deviations = [0.229, 0.224, 0.225]
    m.same("Rescaling", "rescaling", {"scale": 0.5, "offset": 0.0})
    m.standard("normalization")
    m.same("Rescaling", "rescaling_1", {"scale": [1 / d for d in deviations], "offset": [-2.1, 2.0, -1.8] if v == 3 else 0.5})
    m.conv("conv2d", 4, 3, activation="relu")
    m.standard("normalization_1", [0.5, -1.0, 0.25, 0.0], [4.0, 0.25, 1.0, 0.09])
    m.conv("conv2d_1", 2, (2, 1))
    m.standard("normalization_2", 0.5, 2.0, [])
    m.flatten("flatten")
    m.standard("normalization_3")
    m.same("Rescaling", "rescaling_2", {"scale": [0.1 * i - 0.5 for i in range(16)], "offset": [0.25]})
    m.dense("dense", 4)
    m.standard("normalization_4", [1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 2.0, 4.0], [1] if v == 3 else [-1], True)
    return m.text()


MODELS = {"lenet5": lenet5, "residual_image": lambda v: residual(v, [8, 8, 3], [4, 6], 1, "residual_image"), "mobile": mobile, "sequence": sequence,
          "places": places, "first": first, "ranges": ranges,
          "resnet20": lambda v: residual(v, [32, 32, 3], [16, 32, 64], 3, "resnet20")}

if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(MODELS[sys.argv[1]](int(sys.argv[2])))
        sys.exit()
    here = os.path.dirname(os.path.abspath(__file__))
    for name in ("lenet5", "residual_image", "mobile", "sequence", "places", "first", "ranges"):
        for version in (2, 3):
            with open(f"{here}/{name}_keras{version}.json", "w") as f:
                f.write(MODELS[name](version) + "\n")
