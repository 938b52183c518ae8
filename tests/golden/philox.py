"""Golden scores of the random criterion in tests/core/test_crit_weights.c: Philox 4x32-10 written down from the paper, in Python.
usage: python3 philox.py"""


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & 0xffffffff, a >> 32 ^ c[3] ^ k[1], a & 0xffffffff]
        k = [(k[0] + 0x9E3779B9) & 0xffffffff, (k[1] + 0xBB67AE85) & 0xffffffff]
    return c


seed, purpose, stream, step = 5, 5, 2, 1  # purpose 5: criteria
numbers = [u for block in range(2) for u in philox([block, purpose << 24 | stream, step, 0], [seed, 0])]
print([round((u >> 8) * 2.0 ** -24, 8) for u in numbers[:6]])
