# ecrl on CPUs, from Debian and PyPI alone. Nobody has built this image with Docker, and nobody has tried the index of CPU
# wheels. What was tried: these commands in a folder with Debian trixie (debootstrap, chroot), with PyPI's torch; there
# `ecrl init` and `ecrl doctor` work. tests/test_packaging.py makes a wheel of what is copied here, and runs that.
#
#   docker build -t ecrl .
#   docker run --rm -it --init --shm-size 1g -v "$PWD:/work" ecrl init
#   docker run --rm -it --init --shm-size 1g -v "$PWD:/work" ecrl matrix run --prefix mine mine.toml
#
# --init reaps orphans of killed ranks; Docker's own /dev/shm has 64 MB.
FROM debian:trixie-slim

RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*

COPY pyproject.toml README.md LICENSE /opt/ecrl/
COPY ecrl /opt/ecrl/ecrl
COPY matrices /opt/ecrl/matrices

# The CPU wheels of torch: those of PyPI come with CUDA and take 6 GB.
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu /opt/ecrl

WORKDIR /work
ENTRYPOINT ["/opt/venv/bin/ecrl"]
