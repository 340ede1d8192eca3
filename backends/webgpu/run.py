"""A model on wgpu: a plan for each set of input shapes, its buffers on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any, NamedTuple, cast

import numpy as np
import onnx_ir as ir

from ...compiler.errors import TamagoError
from ...compiler.facts import Array
from .device import Device, default_device
from .lowering import plan_of
from .native import Launch, encode, shader_module
from .plan import Choice, Copy, Dispatch, Interface, Kernel, Plan
from .recorded import recorded
from .records import Records
from .types import NUMPY, as_stored


class Program:
    """A model on a device.

    Args:
        model: in standard operators.
        device: where; None: the fastest there is.
        records: which forms of kernels are the fastest; None: the likeliest are taken.
    """

    def __init__(self, model: ir.Model, device: Device | None = None, records: Records | None = None) -> None:
        self.model, self._records = model, records
        self.device = default_device() if device is None else device
        frozen = set(model.graph.initializers.values())
        self.inputs = [v.name or "" for v in model.graph.inputs if v not in frozen]
        self.outputs = [v.name or "" for v in model.graph.outputs]
        self.note = ""
        self._loaded: dict[tuple[tuple[int, ...], ...], Loaded] = {}

    def __call__(self, feeds: Mapping[str, Array]) -> list[Any]:
        """Arrays in, arrays out, in the graph's order.

        Raises:
            TamagoError: B002, the inputs do not fit; B031, operators without a kernel.
        """
        return self.loaded(feeds)(feeds)

    def loaded(self, feeds: Mapping[str, Any]) -> Loaded:
        """The plan for these inputs' shapes, on the device."""
        shapes = {name: tuple(np.shape(feeds[name])) for name in self.inputs}
        key = tuple(shapes.values())
        if key not in self._loaded:
            plan, weights = plan_of(self.model, shapes, half=self.device.half, limits=self.device.limits)
            plan = plan if self._records is None else recorded(plan, self._records)
            self._loaded[key] = Loaded(plan, weights, self.device)
        return self._loaded[key]


@dataclass(frozen=True)
class Held:
    """An output that stays on the device, until the program that left it there runs again.

    Args:
        owner: that program.
        place: which output.
        run: which of its runs.
    """

    owner: Loaded
    place: Interface
    run: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its elements."""
        return self.place.shape

    def check(self) -> None:
        """Raise B002 where a later run has written over it."""
        if self.run != self.owner.runs:
            why = "the program has run again since"
            raise TamagoError("B002", f"'{self.place.name}' is no longer on the device", why=why)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Its elements, read back."""
        self.check()
        return self.owner.read(self.place).astype(dtype or _numpy(self.place.dtype), copy=bool(copy))


class Copied(NamedTuple):
    """A state, and the buffer that it is copied to."""

    state: Held
    target: int


class Loaded:
    """A plan with its buffers and pipelines on a device.

    Raises:
        TamagoError: B042, the device refuses a kernel or a buffer.
    """

    def __init__(self, plan: Plan, weights: Mapping[str, Array], device: Device) -> None:
        import wgpu

        self.plan, self.device, self.runs = plan, device, 0
        usage = wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_SRC | wgpu.BufferUsage.COPY_DST  # pyright: ignore
        gpu = device.gpu
        try:
            self.buffers = [gpu.create_buffer(size=size, usage=usage) for size in plan.buffers]
            for number, name in plan.weights.items():
                self._upload(number, weights[name])
            self._pipelines: dict[int, tuple[Any, Any]] = {}  # of kernels that something asked for
            self._set_up()
            self.take(plan)
        except wgpu.GPUError as error:
            raise TamagoError("B042", "the device refuses the program", why=str(error).strip()[:2000]) from error

    def _set_up(self) -> None:
        """What depends on nothing but weights; those that nothing else reads are given back."""
        if self.plan.setup:
            self._submit(self._bound(self.plan.setup))
        for number in self.plan.spent:
            self.buffers[number].destroy()

    def take(self, plan: Plan) -> None:
        """Let a plan that differs from this one only in the order of choices take its place."""
        self.plan = plan
        self._steps = self._bound(plan.steps)

    def _bound(self, steps: Sequence[Dispatch | Copy]) -> list[Launch | Copy]:
        return [s if isinstance(s, Copy) else self._launch(s.buffers, s.choices[0]) for s in steps]

    def _launch(self, buffers: Sequence[int], choice: Choice) -> Launch:
        return Launch(self.pipeline(choice.kernel)[0], self.bound(buffers, choice.kernel), choice.workgroups)

    def __call__(self, feeds: Mapping[str, Array]) -> list[Array]:
        """One run."""
        for given in self.plan.inputs:
            self.write(given, np.asarray(feeds[given.name]))
        self.submit()
        return [self.read(output) for output in self.plan.outputs]

    def keeping(self, feeds: Mapping[str, Any]) -> list[Any]:
        """One run whose state stays on the device: `Held` in, where one is given, and out for each state of the plan.

        Raises:
            TamagoError: B002, a state that a later run has written over.
        """
        copies: list[Copied] = []
        moved: list[tuple[Interface, Array]] = []
        own = {given.buffer for given in self.plan.inputs}
        for given in self.plan.inputs:
            value = feeds[given.name]
            if not isinstance(value, Held):
                moved.append((given, np.asarray(value)))
                continue
            value.check()
            if value.owner is self and value.place.buffer in own and value.place.buffer != given.buffer:
                moved.append((given, np.asarray(value)))  # another input is written in its place: by way of the host
            elif value.owner is not self or value.place.buffer != given.buffer:
                copies.append(Copied(value, given.buffer))
        for given, array in moved:
            self.write(given, array)
        self.submit(copies)
        return [
            Held(self, output, self.runs) if output.name in self.plan.state else self.read(output)
            for output in self.plan.outputs
        ]

    def submit(self, copies: Sequence[Copied] = ()) -> None:
        """All steps, on the inputs that are there, after copies of states from elsewhere."""
        self.runs += 1
        self._submit(self._steps, copies)

    def _submit(self, steps: Sequence[Launch | Copy], copies: Sequence[Copied] = ()) -> None:
        encoder = self.device.gpu.create_command_encoder()
        for state, target in copies:
            source = state.owner.buffers[state.place.buffer]
            encoder.copy_buffer_to_buffer(source, 0, self.buffers[target], 0, self.plan.buffers[target])
        for kind, together in groupby(steps, type):
            if kind is Launch:
                compute = encoder.begin_compute_pass()
                encode(compute, cast("Iterator[Launch]", together))
                compute.end()
                continue
            for step in cast("Iterator[Copy]", together):
                encoder.copy_buffer_to_buffer(self.buffers[step.source], 0, self.buffers[step.target], 0, step.bytes)
        self.device.gpu.queue.submit([encoder.finish()])

    def finished(self) -> None:
        """All steps on the inputs that are there, and their end awaited."""
        self.submit()
        self.device.gpu.queue.read_buffer(self.buffers[self.plan.outputs[0].buffer], 0, 4)

    def write(self, given: Interface, array: Array) -> None:
        """An input.

        Raises:
            TamagoError: B002, a value needs more than 32 bits.
        """
        try:
            self._upload(given.buffer, as_stored(array, given.stored))
        except OverflowError as error:
            raise TamagoError("B002", f"input '{given.name}' does not fit", why=str(error)) from error

    def read(self, output: Interface) -> Array:
        """An output."""
        count = prod(output.shape)
        if not count:
            return np.zeros(output.shape, _numpy(output.dtype))
        kind = NUMPY[output.stored]
        data = self.device.gpu.queue.read_buffer(self.buffers[output.buffer])
        found = np.frombuffer(data, kind, count).reshape(output.shape)
        return found.astype(_numpy(output.dtype))

    def bound(self, buffers: Sequence[int], kernel: int) -> Any:
        """Buffers as a kernel's bindings."""
        entries = [
            {"binding": i, "resource": {"buffer": self.buffers[b], "offset": 0, "size": self.plan.buffers[b]}}
            for i, b in enumerate(buffers)
        ]
        return self.device.gpu.create_bind_group(layout=self.pipeline(kernel)[1], entries=entries)

    def _upload(self, number: int, array: Array) -> None:
        data = array.tobytes()
        if data:
            self.device.gpu.queue.write_buffer(self.buffers[number], 0, data + b"\0" * (-len(data) % 4))

    def pipeline(self, number: int) -> tuple[Any, Any]:
        """A kernel's pipeline and the layout of its bindings."""
        if number not in self._pipelines:
            self._pipelines[number] = pipeline_of(self.plan.kernels[number], self.device)
        return self._pipelines[number]


def pipeline_of(kernel: Kernel, device: Device) -> tuple[Any, Any]:
    """A kernel on a device, and the layout of its bindings."""
    import wgpu

    gpu = device.gpu
    layout = gpu.create_bind_group_layout(
        entries=[
            {
                "binding": i,
                "visibility": wgpu.ShaderStage.COMPUTE,  # pyright: ignore
                "buffer": {"type": "storage" if written else "read-only-storage"},
            }
            for i, written in enumerate(kernel.written)
        ]
    )
    whole = gpu.create_pipeline_layout(bind_group_layouts=[layout])
    module = shader_module(gpu, device.source(kernel))
    pipeline = gpu.create_compute_pipeline(layout=whole, compute={"module": module, "entry_point": "main"})
    return pipeline, layout


def _numpy(dtype: str) -> Any:
    import ml_dtypes

    return {"bool": np.bool_, "bfloat16": ml_dtypes.bfloat16}.get(dtype) or np.dtype(dtype)
