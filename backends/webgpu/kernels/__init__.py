"""Loops: operators that reduce, a file for each form of loop. Importing a file here registers it."""

from __future__ import annotations

from . import attention as attention
from . import convolution as convolution
from . import cumulative as cumulative
from . import einsum as einsum
from . import extremes as extremes
from . import pooling as pooling
from . import product as product
from . import quantised as quantised
from . import recurrence as recurrence
from . import reduction as reduction
from . import row as row
from . import scatter as scatter
