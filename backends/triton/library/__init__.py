"""The torch operators that stand for generated kernels, so that torch.compile, export and CUDA graphs take them.

On the CPU each is plain torch: that is its meaning, which kernels are tested against.
"""

from . import affine as affine
from . import attention as attention
from . import convolution as convolution
from . import depthwise_squeeze as depthwise_squeeze
from . import mlp as mlp
from . import nbits as nbits
from . import norm as norm
from . import one_row as one_row
from . import separable as separable
from . import squeeze as squeeze
