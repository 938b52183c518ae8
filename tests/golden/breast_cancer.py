#!/usr/bin/env python3
"""Makes tests/data/breast_cancer.csv (scikit-learn's data, class names as labels) and the golden numbers of its scaling by scikit-learn."""
import json
import os

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import MinMaxScaler, StandardScaler

here = os.path.dirname(os.path.abspath(__file__))
d = load_breast_cancer()
with open(os.path.join(here, "../data/breast_cancer.csv"), "w") as f:
    f.write(",".join(d.feature_names) + ",diagnosis\n")
    for row, y in zip(d.data, d.target):
        f.write(",".join(repr(float(v)) for v in row) + "," + d.target_names[y] + "\n")

x = d.data.astype(np.float32).astype(np.float64)
rows = [0, 1, 300, 568]
golden = {"rows": rows, "classes": sorted(d.target_names.tolist()),
          "labels": [sorted(d.target_names).index(d.target_names[d.target[r]]) for r in rows]}
for name, scaler in ("minmax", MinMaxScaler()), ("standardize", StandardScaler()):
    golden[name] = scaler.fit_transform(x)[rows].tolist()
with open(os.path.join(here, "breast_cancer.json"), "w") as f:
    json.dump(golden, f)
