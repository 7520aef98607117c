"""The environment of child processes: removed, kept, and named as an input of the experiment."""

from ecrl.launch.system.environment import build_child_environment, format_inputs, list_inputs

SHELL = {
    "HOME": "/home/me",
    "PET_NNODES": "2",
    "LOGLEVEL": "info",
    "PYTHON_EXEC": "/bin/false",
    "TORCHELASTIC_ERROR_FILE": "/x",
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    "TORCH_DISTRIBUTED_DEBUG": "DETAIL",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_DEBUG": "INFO",
    "KMP_AFFINITY": "none",
    "LD_PRELOAD": "/lib/x.so",
    "OMP_NUM_THREADS": "9",
    "CUDA_VISIBLE_DEVICES": "3",
    "PETS": "2",
    "MY_NCCL_NOTES": "x",
}


def test_what_only_torchrun_reads_is_removed_and_the_rest_is_kept() -> None:
    environment = build_child_environment(SHELL, {"OMP_NUM_THREADS": "1"})
    assert SHELL.keys() - environment.keys() == {
        "PET_NNODES", "LOGLEVEL", "PYTHON_EXEC", "TORCHELASTIC_ERROR_FILE", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE",
    }  # fmt: skip
    assert environment["PYTHONSAFEPATH"] == "1"
    assert (environment["OMP_NUM_THREADS"], environment["NCCL_DEBUG"]) == ("1", "INFO")


def test_inputs_are_what_ranks_read_and_ecrl_does_not_set() -> None:
    assert list(list_inputs(SHELL)) == [
        "GLOO_SOCKET_IFNAME", "KMP_AFFINITY", "LD_PRELOAD", "NCCL_DEBUG", "TORCH_DISTRIBUTED_DEBUG",
    ]  # fmt: skip
    assert format_inputs({"NCCL_DEBUG": "INFO", "A": "b"}) == "NCCL_DEBUG=INFO"
    assert format_inputs({}) == ""
