import subprocess
import sys

import ecrl


def test_importing_ecrl_loads_nothing_that_is_slow() -> None:
    script = (
        "import sys, ecrl; assert ecrl.load and ecrl.__version__; "
        "print(*sorted({'torch', 'pandas', 'numpy', 'scipy', 'pydantic', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50)
    assert done.stdout.strip() == ""


def test_everything_that_is_public_is_documented() -> None:
    assert sorted(ecrl.__all__) == ["__version__", "attach", "load"]
    assert ecrl.attach.__doc__
    assert all(f"{name}:" in ecrl.attach.__doc__ for name in ("model", "optimizer", "extra", "root", "engine", "every"))
    assert ecrl.load.__doc__
    assert ecrl.load.__annotations__.keys() == {"path", "return"}
