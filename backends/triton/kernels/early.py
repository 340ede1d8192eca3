"""A kernel that starts before the one ahead has ended, and lets the one behind it start (compute capability 9.0).

Between two kernels a device is idle for about a microsecond: the second is launched when the first has ended. Where it
may be launched earlier, its programs compute places, and wait; nothing that another kernel may write is read, and
nothing is written, before that one has ended. Only where all callers give constants may those be asked for before.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from ..early_starts import AT_ONCE, AT_THE_END, NEVER

_NEVER, _AT_ONCE, _AT_THE_END = tl.constexpr(NEVER), tl.constexpr(AT_ONCE), tl.constexpr(AT_THE_END)


@triton.jit
def await_ahead(EARLY: tl.constexpr):
    """Wait until all that the kernels ahead have written is there."""
    if EARLY == _AT_ONCE:
        gdc_launch_dependents()
    if EARLY != _NEVER:
        gdc_wait()


@triton.jit
def let_follow(EARLY: tl.constexpr):
    """All is read and computed: the kernel behind may take the places that become free."""
    if EARLY == _AT_THE_END:
        gdc_launch_dependents()
