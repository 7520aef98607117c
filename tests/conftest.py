"""What every test has in its environment, and every ecrl that it starts."""

import os
import tempfile

from ecrl.launch.system.device_leases import FOLDER_VARIABLE

# Leases of this session alone: tests neither wait for what else runs on this machine, nor hold it up.
os.environ[FOLDER_VARIABLE] = tempfile.mkdtemp(prefix="ecrl-leases-")
