"""Steps that need nothing: every node that was valid before means the same in the version given.

Read off the schemas and the texts of onnx 1.23's operator history; a test compares the list with that history.
"""

from __future__ import annotations

_MORE_TYPES = "more element types are allowed"
_NEGATIVE_AXES = "axes (indices for Gather) may be negative; non-negative ones mean what they meant"
_BROADCAST = "inputs may now broadcast; inputs of equal shape give what they gave"
_OPTIONAL = "an attribute, input or output was added whose absence is the old meaning"
_TEXT = "the text was made precise; runtimes compute what they computed"

_STEPS: tuple[tuple[int, str, str], ...] = (
    (8, _BROADCAST, "Max Mean Min Sum"),
    (8, _OPTIONAL, "MaxPool"),  # output Indices, storage_order
    (9, _MORE_TYPES, "Cast Constant Flatten Gemm Greater Less MatMul PRelu"),
    (10, _OPTIONAL, "AveragePool MaxPool"),  # ceil_mode, dilations
    # Auto-padding's formulas were completed, NonMaxSuppression's "strictly greater" was spelt out.
    (11, _TEXT, "AveragePool Conv LpPool MaxPool MaxUnpool NonMaxSuppression"),
    (11, _NEGATIVE_AXES, "ArgMax ArgMin Compress Concat Flatten Gather Hardmax LogSoftmax Scan Slice Softmax Split"),
    (11, _NEGATIVE_AXES, "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd"),
    (11, _NEGATIVE_AXES, "ReduceSum ReduceSumSquare Squeeze Unsqueeze"),
    (11, "classes may be counted from the back; indices had to be non-negative before", "OneHot"),
    (11, _OPTIONAL, "Constant DepthToSpace Gemm TopK"),  # sparse_value, mode, no C, largest and sorted
    (11, _MORE_TYPES, "Equal"),
    (11, "branches may differ in shape, trip counts were spelt out", "If Loop"),
    (12, _OPTIONAL, "ArgMax ArgMin Constant GatherND"),  # select_last_index: the first was taken before
    (12, _MORE_TYPES, "Max MaxPool Min Pow ReduceMax ReduceMin"),
    (12, _TEXT, "Clip"),
    (13, _MORE_TYPES, "Abs Add ArgMax ArgMin Cast Ceil Clip Concat Constant DepthToSpace Div Dropout Equal Exp Expand"),
    (13, _MORE_TYPES, "Flatten Floor Gather GatherElements GatherND Gemm Greater Identity If IsNaN LRN Less Log Loop"),
    (13, _MORE_TYPES, "MatMul Max Mean MeanVarianceNormalization Min Mod Mul Neg NegativeLogLikelihoodLoss NonZero"),
    (13, _MORE_TYPES, "Pad Pow Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean"),
    (13, _MORE_TYPES, "ReduceMin ReduceProd ReduceSumSquare Relu Reshape ScatterElements ScatterND Shape Sigmoid Sign"),
    (13, _MORE_TYPES, "Size Slice SoftmaxCrossEntropyLoss SpaceToDepth Sqrt Sub Sum Tanh Tile Transpose"),
    # One scale for the whole tensor, which is all that 10 knew, ignores the new attribute axis.
    (13, _OPTIONAL, "DequantizeLinear QuantizeLinear"),
    (14, _MORE_TYPES, "Add CumSum Div Identity Mul Relu Sub"),
    (14, _OPTIONAL, "GRU LSTM RNN Reshape"),  # layout, allowzero
    (15, _MORE_TYPES, "BatchNormalization Pow"),
    (15, _OPTIONAL, "Shape"),  # start, end
    (16, _MORE_TYPES, "GreaterOrEqual Identity If LeakyRelu LessOrEqual Loop PRelu Scan Where"),
    (16, _OPTIONAL, "ScatterElements ScatterND"),  # reduction
    (18, _OPTIONAL, "LpPool OptionalHasElement Pad Resize ScatterElements ScatterND"),
    (18, _MORE_TYPES, "OptionalGetElement"),
    (19, _MORE_TYPES, "Constant DequantizeLinear Equal Identity If Loop Reshape Scan Shape Size"),
    (19, _OPTIONAL, "AveragePool Cast CastLike Pad QuantizeLinear Resize"),  # dilations, saturate (float8), modes
    (20, _MORE_TYPES, "ConstantOfShape IsInf IsNaN ReduceMax ReduceMin"),
    (21, _MORE_TYPES, "Cast CastLike Constant ConstantOfShape Flatten Identity If Loop Pad QLinearMatMul Reshape Scan"),
    (21, _MORE_TYPES, "Shape Size Squeeze Transpose Unsqueeze"),
    (21, _OPTIONAL, "DequantizeLinear QuantizeLinear"),  # block_size, output_dtype
    # Windows that start in the padding behind the data are left out: all runtimes did, the text now says so.
    (22, _TEXT, "AveragePool MaxPool"),
    (22, _MORE_TYPES, "Acos Acosh Asin Asinh Atan Atanh Bernoulli Conv ConvTranspose Cos Cosh DeformConv Det Dropout"),
    (22, _MORE_TYPES, "Elu EyeLike GRU GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample HardSigmoid HardSwish"),
    (22, _MORE_TYPES, "InstanceNormalization LSTM LpNormalization LpPool MaxRoiPool MaxUnpool Mish Multinomial"),
    (22, _MORE_TYPES, "NegativeLogLikelihoodLoss RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike"),
    (22, _MORE_TYPES, "RoiAlign Round Selu Sin Sinh Softplus Softsign Tan ThresholdedRelu"),
    (23, _MORE_TYPES, "Cast CastLike Constant ConstantOfShape Flatten Identity If Loop Pad Reshape Scan Shape Size"),
    (23, _MORE_TYPES, "Squeeze Transpose Unsqueeze"),
    (23, _OPTIONAL, "DequantizeLinear QuantizeLinear"),  # output_dtype, precision
    (24, _MORE_TYPES, "Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad QuantizeLinear Reshape"),
    (24, _MORE_TYPES, "Scan Shape Size SplitToSequence Squeeze TopK Transpose Unsqueeze"),
    (24, _OPTIONAL, "Attention Cast CastLike"),  # nonpad_kv_seqlen, round_mode (float8e8m0)
    (25, _MORE_TYPES, "Cast CastLike Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad"),
    (25, _MORE_TYPES, "QuantizeLinear Reshape Scan Shape Size Squeeze Transpose Unsqueeze"),
    (25, _OPTIONAL, "Attention"),  # window sizes
)

UNCHANGED: dict[tuple[str, int], str] = {(op, version): why for version, why, ops in _STEPS for op in ops.split()}
