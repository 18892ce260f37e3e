"""A built engine of TensorRT, on arrays in the device's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from trellic.errors import EngineError
from trellic.gpu.device import Device, address
from trellic.gpu.given import DeviceArray

MEMORY: Final = "for TensorRT"  # name of the memory that all engines of a device work in


class TensorRtEngine:
    """A built engine. Not for several threads at once.

    Inputs choose the profile: the first that takes one picture of their size. A batch of more
    pictures than it takes runs in several parts. All engines of a device run one after the other on
    its stream, so they share the memory for what lies between their layers; it is sized by the
    profile.

    Parameters
    ----------
    trt : the module ``tensorrt``
    plan : the built engine
    device

    Raises
    ------
    EngineError
        When TensorRT cannot read the engine.
    """

    def __init__(self, trt: Any, plan: bytes, device: Device) -> None:
        self._device = device
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(
                "TensorRT cannot read an engine", remedy="delete it; it will be made again"
            )
        users = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._context = self._engine.create_execution_context(users)
        if self._context is None:
            raise EngineError("TensorRT makes no context for an engine; is its memory full?")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        output = trt.TensorIOMode.OUTPUT
        self._outputs = [n for n in names if self._engine.get_tensor_mode(n) == output]
        self._inputs = [n for n in names if n not in self._outputs]
        self._largest = [
            {n: tuple(self._engine.get_tensor_profile_shape(n, i)[2]) for n in self._inputs}
            for i in range(self._engine.num_optimization_profiles)
        ]
        self._profile = -1

    def __call__(self, inputs: Mapping[str, DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Run the engine on the device's stream."""
        own = {name: inputs[name] for name in self._inputs}
        profile = self._choose(own)
        self._select(profile)
        count = len(outputs[0])
        most = min(shape[0] for shape in self._largest[profile].values())
        for first in range(0, count, most):
            part = slice(first, min(first + most, count))
            self._run({n: a[part] for n, a in own.items()}, [a[part] for a in outputs])

    def _choose(self, inputs: Mapping[str, DeviceArray]) -> int:
        for i, largest in enumerate(self._largest):
            shapes = [(tuple(inputs[name].shape[1:]), most[1:]) for name, most in largest.items()]
            if all(np.less_equal(shape, most).all() for shape, most in shapes):
                return i
        largest = self._largest[-1]
        (name, array), *_ = [(n, a) for n, a in inputs.items() if len(a.shape) > 1]
        raise EngineError(
            f"the TensorRT engine takes no {name} of shape {tuple(array.shape[1:])}",
            expected=f"{largest[name][1:]} at most",
            remedy="build engines for larger pictures: trellic export BUNDLE --tensorrt FILE"
            " --max-size N; or use --device cuda",
        )

    def _select(self, profile: int) -> None:
        """Choose a profile, and give it the memory that it needs; others may have used it since."""
        if profile != self._profile:
            stream = self._device.stream_address
            if not self._context.set_optimization_profile_async(profile, stream):
                raise EngineError(f"TensorRT refuses profile {profile} of an engine")
            self._profile = profile
        size = int(self._engine.get_device_memory_size_for_profile_v2(profile))
        memory = self._device.empty(MEMORY, max(size, 1), np.uint8)
        self._context.set_device_memory(address(memory), size)

    def _run(self, inputs: Mapping[str, DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        for name, array in inputs.items():
            if not self._context.set_input_shape(name, tuple(array.shape)):
                raise EngineError(f"the TensorRT engine takes no {name} of shape {array.shape}")
        arrays = [*inputs.items(), *zip(self._outputs, outputs, strict=True)]
        for name, array in arrays:
            if not self._context.set_tensor_address(name, address(array)):
                raise EngineError(f"the TensorRT engine takes no memory for {name}")
        if not self._context.execute_async_v3(self._device.stream_address):
            raise EngineError("TensorRT failed to run an engine")
