"""What TensorBoard shows of a run, read without it."""

from collections import defaultdict

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c


def _summaries(run):
    """Give the step and the values of each record, which is length, CRC, event and CRC."""
    for file in sorted((run / "tensorboard").iterdir()):
        content = file.read_bytes()
        while int.from_bytes(content[8:12], "little") == masked_crc32c(content[:8]):
            end = 12 + int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12:end])
            yield from ((event.step, value) for value in event.summary.value)
            content = content[end + 4 :]


def curves(run, *, times=True):
    """Return the steps and values of each curve, duplicates included; those of seconds if asked."""
    found = defaultdict(list)
    for step, value in _summaries(run):
        if value.HasField("simple_value") and (times or not value.tag.startswith("seconds/")):
            found[value.tag].append((step, value.simple_value))
    return dict(found)


def pictures(run, name):
    """Return the steps and images of a name, duplicates included."""
    return [
        (step, value.image)
        for step, value in _summaries(run)
        if value.tag == name and value.HasField("image")
    ]
