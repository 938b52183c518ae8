"""Golden trajectories of the optimizers: ten steps of torch.optim in double on fixed gradients, for tests/core/test_optim.c.
usage: /usr/bin/python3 tests/golden/optim.py > tests/golden/optim.json"""
import json
import torch

W0 = [0.5, -1.25, 2.0, 0.0, -0.03]
gen = torch.Generator().manual_seed(7)
G = [[round(v, 4) for v in (torch.randn(5, generator=gen) * s).tolist()] for s in (1, 1, 2, .1, .01, 1, 3, .5, .001, 1)]

# our options, torch's class, torch's names
CASES = [
    ({"type": "gradient_descent", "learning_rate": 0.1}, torch.optim.SGD, dict(lr=.1)),
    ({"type": "gradient_descent", "learning_rate": 0.1, "weight_decay": 0.01}, torch.optim.SGD, dict(lr=.1, weight_decay=.01)),
    ({"type": "sgd"}, torch.optim.SGD, dict(lr=.01)),
    ({"type": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.001}, torch.optim.SGD, dict(lr=.1, momentum=.9, weight_decay=.001)),
    ({"type": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True}, torch.optim.SGD, dict(lr=.1, momentum=.9, nesterov=True)),
    ({"type": "rmsprop"}, torch.optim.RMSprop, dict(lr=.001, alpha=.9, eps=1e-8)),
    ({"type": "rmsprop", "learning_rate": 0.01, "rho": 0.95, "momentum": 0.8, "epsilon": 1e-3, "weight_decay": 0.01}, torch.optim.RMSprop,
     dict(lr=.01, alpha=.95, momentum=.8, eps=1e-3, weight_decay=.01)),
    ({"type": "adam"}, torch.optim.Adam, dict()),
    ({"type": "adam", "learning_rate": 0.05, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-2, "weight_decay": 0.1}, torch.optim.Adam,
     dict(lr=.05, betas=(.8, .99), eps=1e-2, weight_decay=.1)),
    ({"type": "adamw"}, torch.optim.AdamW, dict()),
    ({"type": "adamw", "learning_rate": 0.05, "weight_decay": 0.5}, torch.optim.AdamW, dict(lr=.05, weight_decay=.5)),
]


def run(make, options):
    w = torch.tensor(W0, dtype=torch.float64, requires_grad=True)
    opt = make([w], **options)
    out = []
    for g in G:
        w.grad = torch.tensor(g, dtype=torch.float64)
        opt.step()
        out.append(w.tolist())
    return out


lines = ",\n  ".join(json.dumps({"optimizer": ours, "w": run(make, options)}) for ours, make, options in CASES)
print('{"torch": "%s",\n "w0": %s,\n "g": %s,\n "cases": [\n  %s]}' % (torch.__version__, json.dumps(W0), json.dumps(G), lines))
