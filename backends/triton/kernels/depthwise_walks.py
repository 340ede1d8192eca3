"""How programs of a depthwise convolution come by lines of x, `WALK`, the last setting of a candidate."""

from __future__ import annotations

# `depthwise`, a rectangle of results at once, `DOWN` rows of them: in turn; in turn, each while the one before is
# multiplied; all before the first product; or each by threads of its own, whose sums are added up.
IN_TURN, AHEAD, AT_ONCE, SPREAD = range(4)
# `sliding_depthwise`, down a strip of `DOWN` rows of results: in turn; or each while the one before is multiplied.
SLIDING, SLIDING_AHEAD = range(4, 6)
# Results to the right and downwards, runs of them, channels of a block, warps, walk.
Candidate = tuple[int, int, int, int, int, int]
