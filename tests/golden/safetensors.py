#!/usr/bin/env python3
"""Makes golden safetensors files with struct and numpy alone, from the format's description: small.safetensors (what the writer must
give, byte by byte) and dtypes.safetensors (all number types, another order, no padding)."""
import json, os, struct
import numpy as np

here = os.path.dirname(os.path.abspath(__file__))

def put(name, entries, arrays, metadata=None, pad=True):
    header, at = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for key, dtype, shape, raw in arrays:
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    if entries:
        header = {k: header[k] for k in entries}
    text = json.dumps(header, separators=(",", ":")).encode()
    if pad:
        text += b" " * (-len(text) % 8)
    with open(os.path.join(here, name), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(a[3] for a in arrays))

kernel = (np.arange(6, dtype="<f4") / 4 - 0.5).reshape(2, 3)
put("small.safetensors", None, [("dense/kernel", "F32", [2, 3], kernel.tobytes()), ("mask", "U8", [3], bytes([1, 0, 1])),
                                ("step", "I64", [], struct.pack("<q", 42))], {"format": "espalier"})
x = np.array([1.5, -0.0, 6e-8, -65504.0])
bf16 = (x.astype("<f4").view("<u4") >> 16).astype("<u2")
put("dtypes.safetensors", ["e", "b", "h", "d", "f"],
    [("f", "F32", [4], x.astype("<f4").tobytes()), ("h", "F16", [4], x.astype("<f2").tobytes()), ("b", "BF16", [2, 2], bf16.tobytes()),
     ("d", "F64", [4], x.astype("<f8").tobytes()), ("e", "I32", [1], struct.pack("<i", -7))], pad=False)
