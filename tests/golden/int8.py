#!/usr/bin/python3
"""Golden numbers of the integer product (core/int8.h), in numpy: tests/golden/int8.json. Every float step is done in float32, so the C code must
give the same bits. usage: int8.py > int8.json"""
import json

import numpy as np

f32 = np.float32


def weights(w):
    scale = np.abs(w).max(1).astype(f32) / f32(127)
    scale[scale == 0] = 1
    q = np.clip(np.rint(w / scale[:, None]), -127, 127).astype(np.int32)
    return q, scale


def scale_of(low, high):
    most = -low if low < 0 and -low > high else high
    s = f32(most) / f32(127 if low < 0 else 255)
    return (s if s > 1e-30 else f32(1)), (128 if low < 0 else 0)


def product(w, b, x, fixed):
    q, scale = weights(w)
    y = np.zeros((w.shape[0], x.shape[1]), f32)
    for j in range(x.shape[1]):
        s, zero = fixed or scale_of(min(0, x[:, j].min()), max(0, x[:, j].max()))
        low, high = (-127, 127) if zero else (0, 255)
        u = np.rint(np.clip(x[:, j] * (f32(1) / s), f32(low), f32(high))).astype(np.int64) + zero
        v = (q.astype(np.int64) * (u - zero)[None, :]).sum(1).astype(f32)
        y[:, j] = v * (s * scale).astype(f32) + b
    return q, scale, y


def case(rows, cols, n, seed, positive, fixed):
    r = np.random.default_rng(seed)
    w = r.normal(size=(rows, cols)).astype(f32)
    w[r.random((rows, cols)) < 0.6] = 0
    w[0] = 0
    b = r.normal(size=rows).astype(f32)
    x = r.normal(size=(cols, n)).astype(f32)
    if positive:
        x = np.maximum(x, 0)
    at = scale_of(f32(0 if positive else -1.5), f32(2.0)) if fixed else None
    q, scale, y = product(w, b, x, at)
    return {"rows": rows, "cols": cols, "n": n, "range": [0 if positive else -1.5, 2.0] if fixed else None,
            **{k: [float(t) for t in v.ravel()] for k, v in (("w", w), ("b", b), ("x", x), ("q", q), ("scale", scale), ("y", y))}}


cases = [case(5, 7, 3, 1, False, False), case(4, 16, 1, 2, True, False), case(3, 10, 2, 3, False, True), case(6, 9, 5, 4, True, True)]
print(json.dumps(cases))
