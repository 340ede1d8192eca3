"""WebGPU: WGSL generated from the IR, run by wgpu here and by a browser from a folder of static files.

fourier.py     Fourier transforms as products
loops.py       loops whose number of turns is known, written out
recurrent.py   recurrent layers: a product for all steps, then the steps (recurrent_steps.py: as operators)
index.py       arithmetic on subscripts, folded where they are numbers
types.py       element types: as they lie in a buffer, as a shader computes with them
expression.py  an element of a value as statements of a shader: what is not in a buffer is computed where it is read
operators/     what one element of an operator's result is, a file for each family
kernels/       loops: operators that reduce, a file for each form of loop
split.py       weights that are larger than a binding, in pieces
schedule.py    which values lie in buffers, and which operators one kernel does
lowering.py    the plan of a model for one set of input shapes
memory.py      buffers shared by values that are not alive together
plan.py        the plan, as every host reads it
sizes.py       plans for several sizes that share what does not depend on the size
decisions.py   inputs that decide which branch is taken
device.py      the adapter, its limits, and WGSL as it wants it
run.py         a plan on wgpu
target.py      what the pipeline asks of a backend
bundle.py      a plan, or several, as a folder of static files; site/ is what stands in every one
"""
