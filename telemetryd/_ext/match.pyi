import numpy as np
from numpy.typing import NDArray

from telemetryd.classify.tables import Tables
from telemetryd.schema import Batch

class Classifier:
    def __init__(self, datagrams: Batch, samples: Batch, classes: Batch, tables: Tables) -> None: ...
    def classify(self) -> None: ...
    @property
    def unregistered_count(self) -> int: ...
    def unregistered(self) -> dict[str, NDArray[np.uint64]]: ...  # five columns of shape (l,)
