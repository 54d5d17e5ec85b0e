"""What `sparse.py` measures: the tickets, and the ratios that they should reach at 90, 95 and 98% sparsity."""

from __future__ import annotations

SPARSITIES = (90, 95, 98)
RATIOS = ("uniform", "smart", "erk")
MODELS = {"resnet32": "resnet32-su2020", "vgg19": "vgg19"}
SHAPE, CLASSES, BATCH = (3, 32, 32), 10, 64

# By work without the sparsity: at least so many times as fast (or as small), and what would be more than enough.
AT_LEAST = {
    "train-resnet32-uniform": (3.6, 4.5, 5.4),
    "train-resnet32-smart": (2.2, 2.6, 4.2),
    "train-resnet32-uniform-vs-bf16": (1.2, 1.4, 1.8),
    "train-vgg19-uniform": (5.3, 7.8, 11),
    "train-vgg19-smart": (2.5, 3.2, 4.8),
    "train-vgg19-uniform-vs-bf16": (2.5, 3.6, 5.3),
    "infer-resnet32-uniform": (3.1, 4.3, 5.9),
    "infer-resnet32-smart": (1.9, 2.3, 4.1),
    "infer-vgg19-uniform": (4.0, 6.4, 10),
    "infer-vgg19-smart": (1.9, 2.4, 3.5),
    "file-vgg19-uniform": (7.6, 14, 31),
}
STRETCH = {
    "train-resnet32-uniform": (5, 7, 10),
    "train-resnet32-smart": (3, 4, 7),
    "train-vgg19-uniform": (7, 11, 18),
    "train-vgg19-smart": (4, 5, 8),
    "infer-resnet32-uniform": (5, 8, 12),
    "infer-resnet32-smart": (3, 4, 7),
    "infer-vgg19-uniform": (7, 12, 25),
    "infer-vgg19-smart": (3, 4, 6),
}


def targets(work: str, sparsity: int) -> dict[str, float]:
    """`at_least` and `stretch` of a row, where it has them."""
    place = SPARSITIES.index(sparsity)
    tables = {"at_least": AT_LEAST, "stretch": STRETCH}
    return {name: table[work][place] for name, table in tables.items() if work in table}
