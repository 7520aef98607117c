"""What each tracker's own library, or the format that it documents, says was stored of one run.

Each reader gives the points (series, step, value) in the order in which they were written, and the parameters as texts.
"""

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = 32768  # of a log of LevelDB, which a wandb file is behind its own 7 bytes


@dataclass(frozen=True)
class Stored:
    """completed: what the store says of the run's end; None: it has none yet."""

    points: list[tuple[str, int, float]]
    parameters: dict[str, str]
    completed: bool | None


def read_tensorboard(folder: Path) -> Stored:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    [file] = folder.rglob("events.out.tfevents*")
    found = EventAccumulator(str(file.parent), size_guidance={"scalars": 0}).Reload()
    points = [(tag, one.step, one.value) for tag in found.Tags()["scalars"] for one in found.Scalars(tag)]
    told = {tag: HParamsPluginData.FromString(text) for tag, text in found.PluginTagToContent("hparams").items()}
    start = told["_hparams_/session_start_info"].session_start_info.hparams
    parameters = {key: value.string_value or f"{value.number_value:g}" for key, value in start.items()}
    end = told.get("_hparams_/session_end_info")
    return Stored(points, parameters, None if end is None else end.session_end_info.status == 1)


def read_prometheus(folder: Path) -> Stored:
    from prometheus_client.parser import text_string_to_metric_families

    [file] = folder.glob("*.prom")
    families = [*text_string_to_metric_families(file.read_text())]
    [labels] = {tuple(sorted(sample.labels.items())) for family in families for sample in family.samples}
    values = {family.name: family.samples[0].value for family in families}
    step, ended = int(values.pop("ecrl_step")), values.get("ecrl_final_completed")
    points = [(name, step, value) for name, value in values.items()]
    return Stored(points, dict(labels), None if ended is None else bool(ended))


def read_mlflow(folder: Path) -> Stored:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    [experiment] = [one for one in client.search_experiments() if one.name == "exp"]
    [run] = client.search_runs([experiment.experiment_id])
    points = [
        (name, one.step, one.value)
        for name in run.data.metrics
        for one in client.get_metric_history(run.info.run_id, name)
    ]
    ended = {"RUNNING": None, "FINISHED": True, "FAILED": False}[run.info.status]
    return Stored(points, dict(run.data.params), ended)


def read_wandb(folder: Path) -> Stored:
    from wandb.proto.wandb_internal_pb2 import Record

    rows, parameters, ended = dict[int, dict[str, Any]](), dict[str, str](), None
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        ended, preempted = None, False
        for data in _read_leveldb(file.read_bytes()[7:]):
            record = Record.FromString(data)
            if record.HasField("history"):
                row = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                rows[record.history.step.num] = {key: json.loads(value) for key, value in row.items()}
            parameters |= {item.key: item.value_json.strip('"') for item in record.run.config.update}
            preempted = preempted or record.HasField("preempting")
            ended = record.exit.exit_code == 0 if record.HasField("exit") and not preempted else ended
    points = [
        (name, row["train_step"], value)
        for _, row in sorted(rows.items())
        for name, value in row.items()
        if name != "train_step" and not name.startswith("_")
    ]
    return Stored(points, parameters, ended)


def _read_leveldb(data: bytes) -> Iterator[bytes]:
    at, record = 0, b""
    while at + 7 <= len(data):
        room = _BLOCK - (at + 7) % _BLOCK  # the first block has the 7 bytes of the header
        if room < 7:
            at += room
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


READERS: dict[str, Callable[[Path], Stored]] = {
    "tensorboard": read_tensorboard,
    "prometheus": read_prometheus,
    "mlflow": read_mlflow,
    "wandb": read_wandb,
}
