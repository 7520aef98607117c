"""The imports of the warm fork server: everything that a run may need, so its ranks import nothing.

Nothing here may use a device: a process that has initialised CUDA must not be forked.
"""

import gc

gc.disable()  # imports make no garbage, and every collection would scan all objects

import torchvision  # noqa: E402, F401 (models and data sets import it when they are used)

import ecrl.worker.run  # noqa: E402
import ecrl.worker.warm.rank  # noqa: E402, F401
from ecrl import plugins  # noqa: E402

for _family in ("engine", "failure kind", "model", "dataset", "task", "parallelism"):
    _names = plugins.names(_family)
    for _name in set(_names) - plugins.find_missing(_family, _names).keys():
        plugins.load(_family, _name)
gc.freeze()  # forks share the pages of these objects as long as no collection writes to them
