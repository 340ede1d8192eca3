"""One step of attention over a cache of fixed size: rotate, write, attend to everything up to the position."""

from __future__ import annotations

from .operator import Operator

ATTENTION_STEP = Operator(
    "AttentionStep",
    "AttentionStep(q, k, v, cos, sin, i, K, V) = Attention(Rq, K', V') over slots 0 … i, K', V'; K'[i] = Rk, V'[i] = v",
    """
    AttentionStep <scale> (q, k, v, cos, sin, position, past_key, past_value) => (y, present_key, present_value) {
        row_of_cos = Gather <axis = 0> (cos, position)
        row_of_sin = Gather <axis = 0> (sin, position)
        zero = Constant <value_ints = [0]> ()
        c = Unsqueeze (row_of_cos, zero)
        s = Unsqueeze (row_of_sin, zero)
        turned = RotaryEmbedding (q, c, s)
        key = RotaryEmbedding (k, c, s)
        sizes = Shape (key)
        index = Expand (position, sizes)
        present_key = ScatterElements <axis = 2> (past_key, index, key)
        present_value = ScatterElements <axis = 2> (past_value, index, v)
        slots = Shape <start = 2, end = 3> (past_key)
        start = Constant <value_int = 0> ()
        one = Constant <value_int = 1> ()
        many = Squeeze (slots)
        slot = Range (start, many, one)
        mask = LessOrEqual (slot, position)
        rows = Constant <value_ints = [0, 1, 2]> ()
        visible = Unsqueeze (mask, rows)
        y = Attention <scale : float = @scale> (turned, present_key, present_value, visible)
    }
    """,
    like=(0, 6, 7),
    samples=(
        {"q": "f32[1,4,1,16]", "k": "f32[1,2,1,16]", "v": "f32[1,2,1,16]"}
        | {"cos": "f32[24,8]", "sin": "f32[24,8]", "position": "i64[1] = 17"}
        | {"past_key": "f32[1,2,24,16]", "past_value": "f32[1,2,24,16]", "scale": "0.25"},
        {"q": "f16[1,3,1,32]", "k": "f16[1,3,1,32]", "v": "f16[1,3,1,32]"}
        | {"cos": "f16[40,16]", "sin": "f16[40,16]", "position": "i64[1] = 0"}
        | {"past_key": "f16[1,3,40,32]", "past_value": "f16[1,3,40,32]", "scale": "0.2"},
    ),
)
