"""Segment studies as they arrive in a folder: each one once, whatever happens meanwhile."""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segjax.data.arrivals import Inbox, Study
from segjax.data.cases import Case
from segjax.data.io.dicom.series import holds_dicom
from segjax.data.layouts import find_inputs
from segjax.data.listing import is_image
from segjax.data.sources import sha256_files
from segjax.errors import InputError
from segjax.files import atomic_path, locked, move, read_json_object, walk, write_json
from segjax.segment import Companion, Segmentation, segment

if TYPE_CHECKING:
    from segjax_onnx.predict.predictor import Predictor

__all__ = ["Record", "Task", "watch"]

_LOG, _FAILED, _WORK = "watch.jsonl", "failed", ".watch"
_RECORD, _DEATHS = "study.json", "deaths.json"
_TRIES = 5
_PAUSE = 60.0  # seconds before the second try; each further one waits twice as long
_LONGEST = 3600.0
_OUR_FAULT = re.compile(  # of this machine, not of the study
    r"cannot be written|No space left|Permission denied|Input/output error|Stale file handle|"
    r"MemoryError|[Ff]ailed to allocate|bad allocation"
)


@dataclass(frozen=True)
class Task:
    """What is done with every study.

    Attributes:
        predictor: The exported network.
        images: Name of the file of each channel, as for :func:`segjax.data.layouts.find_inputs`.
        series: DICOM series to take, where not all are wanted.
        companions: What writes more beside each mask.
        options: As for :func:`segjax.segment.segment`.
    """

    predictor: "Predictor"
    images: Sequence[str] = ()
    series: Sequence[str] = ()
    companions: Sequence[Companion] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Number of images of a case."""
        return self.predictor.metadata.in_channels - len(self.predictor.missing)

    def cases(self, folder: Path) -> list[Case]:
        """Find what to segment in the folder of a study, however deep its images lie.

        Raises:
            InputError: There is nothing, or something does not fit together.
        """
        subject_of_bids = self.images and folder.name.startswith("sub-")
        places = [folder.parent if subject_of_bids else folder]
        if not self.images and not holds_dicom(folder):
            places = sorted({file.parent for file in walk(folder) if is_image(file)}) or places
        return find_inputs(places, channels=self.channels, images=self.images, series=self.series)

    def segment(self, cases: Sequence[Case], out: Path) -> list[Segmentation]:
        """Segment the images of a study into a folder."""
        return list(segment(self.predictor, cases, out, companions=self.companions, **self.options))


@dataclass(frozen=True)
class Record:
    """What became of a study: a line of ``watch.jsonl``.

    Attributes:
        time: When it was finished, UTC, as ISO 8601 writes it.
        study: The study: the name of its folder or file, or the StudyInstanceUID, or both.
        status: ``"partly"`` where some of its images failed.
        result: Folder of its masks, or file that tells why there are none; within the outbox.
        replaces: Folder of the masks that were made before the study changed; or empty.
        masks: Their number.
        seconds: Time that it took.
        state: Digest of the names, sizes and times of its files.
        sha256: Digest of the content of the images.
        reason: What failed, and why.
    """

    time: str
    study: str
    status: Literal["done", "partly", "failed"]
    result: str
    replaces: str
    masks: int
    seconds: float
    state: str
    sha256: str
    reason: str

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Record":
        """Return the record that JSON holds.

        Raises:
            InputError: It holds none.
        """
        try:
            return cls(**{each.name: content[each.name] for each in fields(cls)})
        except (KeyError, TypeError) as error:
            raise InputError(f"this is no record of a study: {content!r:.200}") from error


def watch(
    inbox: str | Path,
    out: str | Path,
    task: Task,
    *,
    settle: float = 60.0,
    poll: float = 5.0,
    once: bool = False,
) -> Iterator[Record]:
    """Segment the studies that lie in a folder, and those that arrive, the oldest first.

    The inbox is looked at again and again, and only read. A study, as
    :class:`segjax.data.arrivals.Inbox` tells them apart, is complete when its files have not
    changed for a while. It is segmented in a hidden folder, which is renamed to ``NAME`` when all
    of it is written; then ``watch.jsonl`` gets a line, a :class:`Record`. A study that cannot be
    segmented gets ``failed/NAME.json`` instead, and is tried again when its files change or this
    file is removed. A study that gets other images after it was segmented is segmented anew, into
    ``NAME-2``. Where the disk is full, or memory short, a study is tried again later.

    A process that ends at any moment, even by a power cut, loses nothing; the next one goes on:
    whole results are kept, the others made again.

    Args:
        inbox: Folder into which studies arrive.
        out: Folder for results; made if needed.
        task: What is done with a study.
        settle: Seconds without a change after which a study is complete.
        poll: Seconds between two looks.
        once: End after ``settle`` seconds and all that was complete then, instead of never.

    Yields:
        One record for each study, as soon as its line is in the log.

    Raises:
        InputError: The inbox is missing, one of the folders lies in the other, another process
            watches with the same outbox, or its log is none. With ``once``, the disk is full or
            memory short.

    Warns:
        UserWarning: The inbox cannot be read, or a study is tried again later.

    Example:
        >>> import tempfile
        >>> from segjax import Predictor
        >>> inbox, out = tempfile.mkdtemp(), tempfile.mkdtemp()
        >>> _ = shutil.copy("flair.nii.gz", inbox)
        >>> task = Task(Predictor("model.onnx"))
        >>> [one.result for one in watch(inbox, out, task, settle=0, once=True)]
        ['flair']
    """
    from segjax_onnx.predict.outputs import make_folder

    inbox, out = Path(inbox), Path(out)
    _check_folders(inbox, out)
    for name, seconds in (("settle", settle), ("poll", poll)):
        if not seconds >= 0:
            raise InputError(f"{name} {seconds}: give seconds, 0 or more")
    make_folder(out)
    with locked(out) as ours:
        if not ours:
            raise InputError(f"{out}: another segjax watch writes there; choose another folder")
        watcher = _Watcher(Inbox(inbox, task.channels), _Outbox(out), task, settle)
        yield from watcher.run(poll, once)


def _check_folders(inbox: Path, out: Path) -> None:
    if not inbox.is_dir():
        raise InputError(f"{inbox}: there is no such folder")
    places = inbox.resolve(), out.resolve()
    if places[0].is_relative_to(places[1]) or places[1].is_relative_to(places[0]):
        raise InputError(f"{inbox} and {out}: one lies in the other; choose separate folders")


class _Outbox:
    """The results, the log of them, and what it tells of each study.

    A record counts from the moment on when the folder or file that holds it is renamed to its
    place. The log repeats the records in order; those that a dead process left out are added.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log, self._work = folder / _LOG, folder / _WORK
        self.done: dict[str, Record] = {}
        self.failed: dict[str, Record] = {}
        self._records: set[Record] = set()
        self.deaths: Counter[str] = Counter()  # of processes, at each study
        with suppress(InputError):
            self.deaths.update(read_json_object(self._work / _DEATHS))
        shutil.rmtree(self._work, ignore_errors=True)  # that of a dead process
        (folder / _FAILED).mkdir(exist_ok=True)
        for record in self._logged():
            self._keep(record)
        for record in self._unlogged():
            self._keep(record)
            self.log(record)

    def is_settled(self, study: Study) -> bool:
        """Say whether a study as it is now was segmented, or cannot be."""
        if failed := self.failed.get(study.key):
            return failed.state == study.state and (self._folder / failed.result).exists()
        done = self.done.get(study.key)
        return done is not None and done.state == study.state

    @contextmanager
    def workplace(self, study: Study) -> Iterator[Path]:
        """Yield a folder beside the results, which a process leaves only where it dies."""
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir()
        try:
            write_json(self.deaths + Counter([study.key]), self._work / _DEATHS)
            yield self._work
        finally:
            shutil.rmtree(self._work, ignore_errors=True)
            del self.deaths[study.key]

    def place(self, study: Study, *, failed: bool) -> str:
        """Return where the result of a study goes: a name that was never used for another."""
        if failed and (before := self.failed.get(study.key)):
            return before.result
        used = {record.result for record in self._records}
        names = (study.name if n == 1 else f"{study.name}-{n}" for n in count(1))
        places = (f"{_FAILED}/{name}.json" if failed else name for name in names)
        return next(
            place for place in places if place not in used and not (self._folder / place).exists()
        )

    def put(self, record: Record, result: Path) -> None:
        """Move a result, or else the record alone, to its place: from then on it counts.

        Raises:
            InputError: The disk is full or not writable.
            OSError: The same.
        """
        file = result / _RECORD
        result.mkdir(exist_ok=True)
        write_json(asdict(record), file)
        move(file if record.status == "failed" else result, self._folder / record.result)
        self._keep(record)

    def log(self, record: Record) -> None:
        """Write the line of a record, or nothing of it.

        Raises:
            OSError: The disk is full or not writable.
        """
        with self._log.open("ab", buffering=0) as log:
            before = log.seek(0, os.SEEK_END)
            try:
                line = json.dumps(asdict(record)).encode() + b"\n"
                if log.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(log.fileno())
            except OSError:
                log.truncate(before)
                raise

    def _keep(self, record: Record) -> None:
        """Remember what a record says; one of a success ends a failure."""
        self._records.add(record)
        if record.status == "failed":
            self.failed[record.study] = record
            return
        self.done[record.study] = record
        if failed := self.failed.pop(record.study, None):
            (self._folder / failed.result).unlink(missing_ok=True)

    def _logged(self) -> list[Record]:
        """Return the records of the log, of which a half line at the end is cut off."""
        text = self._log.read_bytes() if self._log.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            os.truncate(self._log, len(whole))
        try:
            return [Record.from_json(json.loads(line)) for line in whole.splitlines()]
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{self._log}: is no log of segjax watch ({error}); move it away, and it is "
                "written anew"
            ) from error

    def _unlogged(self) -> list[Record]:
        """Return the records whose results are there but whose lines are not."""
        found: set[Record] = set()
        for file in (*self._folder.glob(f"*/{_RECORD}"), *self._folder.glob(f"{_FAILED}/*.json")):
            with suppress(InputError):  # a file of somebody else
                found.add(Record.from_json(read_json_object(file)))
        return sorted(found - self._records, key=lambda record: record.time)


@dataclass
class _Watcher:
    """Looks, waits and segments."""

    inbox: Inbox
    outbox: _Outbox
    task: Task
    settle: float
    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)  # state, since when
    _alike: dict[str, str] = field(default_factory=dict)  # changed in nothing but names and times
    _later: dict[str, tuple[int, float]] = field(default_factory=dict)  # tries, time of the next

    def run(self, poll: float, once: bool) -> Iterator[Record]:
        """Yield records until all is done, or for ever."""
        start = now = time.monotonic()
        while True:
            for study in self._complete(now, strict=once):
                if record := self._attempt(study):
                    self._log(record, strict=once)
                    yield record
            if once and now - start >= self.settle:
                break
            left = start + self.settle - time.monotonic() if once else math.inf
            time.sleep(max(0.0, min(poll, left)))
            now = time.monotonic()
        if self._later:
            raise InputError(f"{', '.join(self._later)}: not done yet; run the same command again")

    def _complete(self, now: float, *, strict: bool) -> list[Study]:
        """Return the studies that wait to be segmented, the oldest first."""
        try:
            studies = self.inbox.look()
        except InputError as error:
            if strict:
                raise
            warnings.warn(str(error), stacklevel=2)
            return []
        before, self._seen = self._seen, {}
        for study in studies:
            state, since = before.get(study.key, ("", now))
            self._seen[study.key] = study.state, since if state == study.state else now
        ready = [study for study in studies if self._is_ready(study, now)]
        deaths = self.outbox.deaths  # what kills processes must not keep the others waiting
        return sorted(ready, key=lambda study: (deaths[study.key], study.newest, study.name))

    def _is_ready(self, study: Study, now: float) -> bool:
        return (
            now - self._seen[study.key][1] >= self.settle
            and now >= self._later.get(study.key, (0, now))[1]
            and self._alike.get(study.key) != study.state
            and not self.outbox.is_settled(study)
        )

    def _attempt(self, study: Study) -> Record | None:
        """Segment a study; where something of this machine hinders it, it is tried again later."""
        tries, _ = self._later.pop(study.key, (0, 0.0))
        try:
            return self._segment(study, last=tries + 1 == _TRIES)
        except (OSError, MemoryError, InputError) as error:
            reason, pause = str(error) or type(error).__name__, min(_PAUSE * 2**tries, _LONGEST)
            self._later[study.key] = tries + 1, time.monotonic() + pause
            warnings.warn(f"{study.name}: {reason}; again in {pause:.0f} s", stacklevel=2)
            return None

    def _segment(self, study: Study, *, last: bool) -> Record | None:
        """Segment a study and put the result away; nothing where it is none, or not as before."""
        start = time.monotonic()
        deaths = self.outbox.deaths[study.key]
        with self.outbox.workplace(study) as work, _heard_without(work / "images"):
            images, result = work / "images", work / "result"
            cases, sha256, reasons = self._find(study.link(images), deaths)
            done = self.outbox.done.get(study.key)
            if done and done.sha256 == sha256 and study.key not in self.outbox.failed:
                self._alike[study.key] = study.state
                return None
            masks, failures = self._run(cases, result)
            reason = _on_one_line("; ".join(reasons + failures), images, result)
            now = self.inbox.again(study)
            if now is None or now.state != study.state:
                return None
            if _OUR_FAULT.search(reason) and not last:
                raise InputError(reason)
            _shorten(result / "volumes.csv", images)
            record = Record(
                time=datetime.now(UTC).isoformat(timespec="milliseconds"),
                study=study.key,
                status="failed" if not masks else "partly" if reason else "done",
                result=self.outbox.place(study, failed=not masks),
                replaces=done.result if done else "",
                masks=masks,
                seconds=round(time.monotonic() - start, 3),
                state=study.state,
                sha256=sha256,
                reason=reason,
            )
            self.outbox.put(record, result)
        return record

    def _run(self, cases: Sequence[Case], result: Path) -> tuple[int, list[str]]:
        """Segment cases into a folder; return the number of masks, and what failed."""
        try:
            results = self.task.segment(cases, result) if cases else []
        except InputError as error:
            return 0, [str(error)]
        failures = [each.error for each in results if each.error]
        return len(results) - len(failures), failures

    def _log(self, record: Record, *, strict: bool) -> None:
        """Write the line of a record as soon as the disk lets it be."""
        while True:
            try:
                return self.outbox.log(record)
            except OSError as error:
                if strict:
                    raise
                warnings.warn(f"{record.result}: not in the log yet: {error}", stacklevel=2)
                time.sleep(_PAUSE)

    def _find(self, folder: Path, deaths: int) -> tuple[list[Case], str, list[str]]:
        """Return what to segment in a folder, a digest of its content, and why there is nothing."""
        if deaths >= _TRIES:
            return [], "", [f"{deaths} processes died while they segmented it; is memory short?"]
        try:
            cases = self.task.cases(folder)
            digests = [sha256_files(image) for case in cases for image in case.images]
            return cases, hashlib.sha256("".join(digests).encode()).hexdigest(), []
        except InputError as error:
            return [], "", [str(error)]
        except Exception as error:  # the other studies are worth having all the same
            return [], "", [f"{type(error).__name__}: {error}"]


@contextmanager
def _heard_without(folder: Path) -> Iterator[None]:
    """Leave a folder that is there for a moment out of the warnings of the block."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            show(category(_on_one_line(str(message), folder)), category, *place, **more)

        warnings.showwarning = tell
        yield


def _on_one_line(text: str, *folders: Path) -> str:
    """Return a text without line breaks and without the folders that are there for a moment."""
    for folder in folders:
        text = text.replace(f"{folder}{os.sep}", "")
    return " ".join(text.split())


def _shorten(table: Path, folder: Path) -> None:
    """Leave the folder that is there for a moment out of a table."""
    content = table.read_bytes() if table.exists() else b""
    name = os.fsencode(f"{folder}{os.sep}")
    if name in content:
        with atomic_path(table, overwrite=True) as temporary:
            temporary.write_bytes(content.replace(name, b""))
