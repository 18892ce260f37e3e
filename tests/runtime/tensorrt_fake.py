"""TensorRT as its documentation has it: the names and arguments that Trellic uses, and no others.

Recorded from the Python API of TensorRT 10.1 to 10.15 and of 11.0 to 11.4. A name that is not here
is an AttributeError, a wrong argument a TypeError, as with the package itself. It builds nothing: a
"plan" is JSON of what was asked for. What is called is written to `CALLS`.
"""

from __future__ import annotations

import json
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any


class _Flags10(IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1
    PREFER_AOT_PYTHON_PLUGINS = 2
    PREFER_JIT_PYTHON_PLUGINS = 3


class _Flags11(IntEnum):
    PREFER_AOT_PYTHON_PLUGINS = 2
    PREFER_JIT_PYTHON_PLUGINS = 3


class _Strategy(IntEnum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class _Mode(IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class _Sealed:
    """Attributes are those that are named, as of an object of the binding."""

    __slots__ = ()


class _Logger(_Sealed):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self, min_severity: int = 2) -> None:
        assert min_severity in range(5)


class _HostMemory(_Sealed):
    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bytes__(self) -> bytes:  # stands for the buffer protocol
        return self._data


class _TimingCache(_Sealed):
    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> _HostMemory:
        return _HostMemory(self._content or b"timings of this machine")


class _Profile(_Sealed):
    __slots__ = ("shapes",)

    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        ranges = list(zip(min, opt, max, strict=True))
        if not all(a <= b <= c for a, b, c in ranges):
            raise RuntimeError("Shape provided for opt is inconsistent with other shapes.")
        self.shapes[input] = [list(min), list(opt), list(max)]


class _Config(_Sealed):
    __slots__ = ("_fake", "profiles", "timings")

    def __init__(self, fake: Fake) -> None:
        self._fake, self.profiles, self.timings = fake, [], None

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: Any) -> _TimingCache:
        return _TimingCache(bytes(memoryview(serialized_timing_cache)))

    def set_timing_cache(self, cache: _TimingCache, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False  # a bool, as the library asks for
        self._fake.calls.append(("timing cache", cache._content))
        if cache._content and cache._content != b"timings of this machine":
            return False
        self.timings = cache
        return True


class _Network(_Sealed):
    __slots__ = ("graph",)

    def __init__(self) -> None:
        self.graph = b""


class _ParserError(_Sealed):
    def desc(self) -> str:
        return "no operator of that name"


class _Parser(_Sealed):
    __slots__ = ("_network", "num_errors")

    def __init__(self, network: _Network, logger: _Logger) -> None:
        assert isinstance(logger, _Logger)
        self._network, self.num_errors = network, 0

    def parse(self, model: Any, path: str | None = None) -> bool:
        self._network.graph = bytes(memoryview(model))
        self.num_errors = int(self._network.graph == b"no graph")
        return not self.num_errors

    def get_error(self, index: int) -> _ParserError:
        assert index < self.num_errors
        return _ParserError()


class _Builder(_Sealed):
    __slots__ = ("_fake",)

    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def create_network(self, flags: int = 0) -> _Network:
        self._fake.calls.append(("network", flags))
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config(self._fake)

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> _HostMemory | None:
        assert config.timings is not None
        self._fake.calls.append(("build", config.profiles))
        if network.graph == b"too much":
            return None
        return _HostMemory(json.dumps(config.profiles).encode())


class _Context(_Sealed):
    __slots__ = ("_addresses", "_engine", "_fake", "_profile", "_shapes")

    def __init__(self, fake: Fake, engine: _Engine) -> None:
        self._fake, self._engine, self._profile = fake, engine, 0
        self._shapes: dict[str, Any] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self._fake.calls.append(("profile", profile_index, stream_handle))
        self._profile, self._shapes = profile_index, {}
        return profile_index < self._engine.num_optimization_profiles

    def set_device_memory(self, memory: int, size: int) -> None:
        self._fake.calls.append(("memory", memory, size))

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self._engine._profiles[self._profile][name]
        self._shapes[name] = shape
        return all(a <= b <= c for a, b, c in zip(smallest, shape, largest, strict=True))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return name != "unknown"

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._fake.calls.append(("run", dict(self._shapes), dict(self._addresses), stream_handle))
        return not self._fake.breaks


class _Engine(_Sealed):
    __slots__ = ("_fake", "_names", "_profiles", "num_io_tensors", "num_optimization_profiles")

    def __init__(self, fake: Fake, plan: bytes) -> None:
        self._fake, self._profiles = fake, json.loads(plan)
        self._names = [*self._profiles[0], "out"]
        self.num_io_tensors = len(self._names)
        self.num_optimization_profiles = len(self._profiles)

    def create_execution_context(self, strategy: _Strategy = _Strategy.STATIC) -> _Context:
        self._fake.calls.append(("context", strategy.name))
        return _Context(self._fake, self)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> _Mode:
        return _Mode.OUTPUT if name == "out" else _Mode.INPUT

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        return [tuple(shape) for shape in self._profiles[profile_index][name]]

    def get_device_memory_size_for_profile_v2(self, profile_index: int) -> int:
        (_, _, largest), *_ = self._profiles[profile_index].values()
        size = 1
        for side in largest:
            size *= side
        return size


class _Runtime(_Sealed):
    __slots__ = ("_fake",)

    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def deserialize_cuda_engine(self, serialized_engine: Any) -> _Engine | None:
        plan = bytes(memoryview(serialized_engine))
        return _Engine(self._fake, plan) if plan.startswith(b"[") else None


class Fake:
    """A module ``tensorrt`` of a version, and what was called in it."""

    def __init__(self, version: str) -> None:
        self.calls: list[Any] = []
        self.breaks = False
        self.module = ModuleType("tensorrt")
        flags = _Flags10 if version.startswith("10") else _Flags11
        names = SimpleNamespace(
            __version__=version,
            Logger=_Logger,
            Builder=self._of(_Builder),
            OnnxParser=_Parser,
            Runtime=self._of(_Runtime),
            NetworkDefinitionCreationFlag=flags,
            ExecutionContextAllocationStrategy=_Strategy,
            TensorIOMode=_Mode,
        )
        vars(self.module).update(vars(names))

    def _of(self, kind: Any) -> Any:
        def made(logger: _Logger) -> Any:
            assert isinstance(logger, _Logger)
            return kind(self)

        return made

    def named(self, name: str) -> list[Any]:
        """Return what was called under a name, without it."""
        return [call[1:] for call in self.calls if call[0] == name]
