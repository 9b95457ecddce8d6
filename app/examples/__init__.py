"""Applications to copy from."""

from app.process import preload_cuda_runtime

# Before an example imports the SDK: Holoscan links the CUDA runtime even on a CPU.
preload_cuda_runtime()
