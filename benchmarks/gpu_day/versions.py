"""What the machine has: GPU, driver, packages; and what is missing, before time is lost."""

from __future__ import annotations

import importlib
import subprocess
import sys

NEEDED = {
    "kernels": ("numpy", "numba", "numba.cuda", "pydantic", "rich", "typer", "PIL"),
    "files by torch": ("torch", "onnx"),
    "files by onnxruntime": ("onnxruntime",),
    "training": ("lightning", "pytorch_optimizer", "pytorch_msssim", "yaml", "tensorboard"),
}


def main() -> int:
    """Print it; exit with 1 where the kernels can't run."""
    from trellic.engines import ort

    print(sys.version)
    for program in (["nvidia-smi"], ["nvcc", "--version"]):
        try:
            print(subprocess.run(program, capture_output=True, text=True, check=False).stdout)
        except OSError as error:
            print(f"{program[0]}: {error}")
    faults = []
    for what, modules in NEEDED.items():
        for name in modules:
            try:
                module = importlib.import_module(name)
                print(f"{name} {getattr(module, '__version__', '')}")
            except Exception as error:  # whatever a package raises while it is imported
                print(f"MISSING for {what}: {name} ({type(error).__name__}: {error})")
                faults.append(what)
    for device in ("cuda", "tensorrt"):
        try:
            print(f"onnxruntime on {device}: {ort.missing_for(device) or 'there'}")
        except Exception as error:
            print(f"onnxruntime on {device}: {type(error).__name__}: {error}")
    missing = ort.missing_gpu()
    print(f"GPU: {missing or 'there'}")
    return 1 if missing or "kernels" in faults else 0


if __name__ == "__main__":
    sys.exit(main())
