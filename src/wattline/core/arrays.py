"""The arrays everything passes around: double precision for quantities, 64-bit integers for positions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
