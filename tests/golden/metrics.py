"""Golden numbers of tests/core/test_metrics.c: scikit-learn's figures on small made cases, written to metrics.json beside this script.
usage: python3 metrics.py > metrics.json   (scikit-learn 1.2)"""
import json, warnings
import numpy as np
from sklearn import metrics as sk

warnings.simplefilter('ignore')
rng = np.random.default_rng(7)


def softmax(z):
    z = np.exp(z - z.max(1, keepdims=True))
    return (z / z.sum(1, keepdims=True)).astype(np.float32)


def figures(y, p, classes):
    """y labels, p [n][k] float32; k 1: of class 1"""
    pred = (p[:, 0] > 0.5).astype(int) if p.shape[1] == 1 else p.argmax(1)
    binary = classes == 2
    kw = dict(zero_division=0, average='binary' if binary else 'macro')
    if binary:
        score = p[:, -1]
        auc = sk.roc_auc_score(y, score) if 0 < y.sum() < len(y) else None
    else:  # one-vs-rest over the classes that have samples on both sides
        one = [sk.roc_auc_score(y == c, p[:, c]) for c in range(classes) if 0 < (y == c).sum() < len(y)]
        auc = float(np.mean(one)) if one else None
    top5 = 1.0 if classes <= 5 else sk.top_k_accuracy_score(y, p, k=5, labels=range(classes))
    return dict(accuracy=sk.accuracy_score(y, pred), top5_accuracy=top5, precision=sk.precision_score(y, pred, **kw),
                recall=sk.recall_score(y, pred, **kw), f1=sk.f1_score(y, pred, **kw),
                f1_macro=sk.f1_score(y, pred, average='macro', zero_division=0),
                f1_weighted=sk.f1_score(y, pred, average='weighted', zero_division=0), auc=auc,
                confusion_matrix=sk.confusion_matrix(y, pred, labels=range(classes)).tolist())


def case(name, y, p, classes):
    y = np.asarray(y)
    return dict(name=name, n_classes=classes, label=y.tolist(), probability=[[float(v) for v in c] for c in p.T],
                expect=figures(y, p, classes))


def scores(y, classes, noise):
    return softmax(np.eye(classes)[y] * 2 + rng.normal(0, noise, (len(y), classes)))


cases = []
y = rng.integers(0, 2, 80)
cases.append(case('binary, one output', y, np.clip(y * .3 + rng.random(80) * .7, 0, 1)[:, None].astype(np.float32), 2))
cases.append(case('binary, two outputs', y, scores(y, 2, 1.5), 2))
cases.append(case('binary, ties', y, (np.round((y * .4 + rng.random(80) * .6) * 5) / 5)[:, None].astype(np.float32), 2))
cases.append(case('binary, all scores equal', y, np.full((80, 1), .75, np.float32), 2))
cases.append(case('binary, one class only', np.ones(10, int), rng.random((10, 1)).astype(np.float32), 2))
y = rng.integers(0, 4, 120)
cases.append(case('four classes', y, scores(y, 4, 2), 4))
y = rng.choice(10, 300, p=[.4, .2, .1, .1, .05, .05, .04, .03, .02, .01])
cases.append(case('ten classes, imbalanced', y, scores(y, 10, 2), 10))
y = rng.choice([0, 1, 3, 5, 6, 7], 100)  # 2 and 4 have no sample
p = scores(y, 8, 2)
p[:, 4] = 0  # and 4 is never predicted
cases.append(case('eight classes, two missing', y, p, 8))
y = rng.integers(0, 3, 90)
p = np.round(scores(y, 3, 2) * 4) / 4 + np.array([2e-3, 1e-3, 0])  # ties within a class, none between classes
cases.append(case('three classes, ties', y, p.astype(np.float32), 3))

x, t = rng.normal(size=(50, 3)).astype(np.float32), rng.normal(size=(50, 3)).astype(np.float32)
regress = dict(prediction=[[float(v) for v in c] for c in x.T], target=[[float(v) for v in c] for c in t.T],
               expect=dict(mse=float(sk.mean_squared_error(t.astype(float), x.astype(float))),
                           mae=float(sk.mean_absolute_error(t.astype(float), x.astype(float)))))
print(json.dumps(dict(classify=cases, regress=regress), indent=None, separators=(',', ':')))
