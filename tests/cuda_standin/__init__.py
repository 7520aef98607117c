"""A stand-in for the CUDA runtime: the real `torch.cuda` over host memory, with an adversary for a scheduler.

`src/` is a library that is preloaded in place of libcudart and libcuda, `build.py` makes it, `library.py` is a
test's hold on it inside a process that has it, and `program_*.py` are those processes. It knows memory, copies,
streams and events, no kernels, no NCCL and no time: it shows that work is ordered, never that it is fast.
"""
