"""stub"""

import zlib
from functools import cache

import numpy as np


class H:
    name = "hash-0:1536"
    dimensions = 1536
    at_hand = 256

    def embed(self, texts):
        out = np.zeros((len(texts), 1536), np.float32)
        for i, t in enumerate(texts):
            for w in t.lower().split() or ["-"]:
                h = zlib.crc32(w.encode())
                out[i, h % 1536] += 1 if h & (1 << 20) else -1
            n = np.linalg.norm(out[i])
            if n == 0:
                out[i, 0] = 1
            else:
                out[i] /= n
        return out


@cache
def embedder():
    return H()
