"""The kernels, a file each: its statement, its candidates, the kernel. Nothing here is imported where Triton is not."""
