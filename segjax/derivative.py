"""Make the folder of masks a derivative data set of BIDS."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segjax import __version__
from segjax.data.bids import dataset_root, list_bids
from segjax.data.cases import Case
from segjax.data.sources import sha256_files
from segjax.errors import InputError
from segjax.files import atomic_path, read_json_object, write_json

if TYPE_CHECKING:
    from segjax.evaluate.measure import LabelMeasures
    from segjax_onnx.predict.metadata import ModelMetadata
    from segjax_onnx.predict.predictor import Predictor

__all__ = ["Derivative", "derived"]

_DESCRIPTION = "dataset_description.json"
_VERSION = "1.10.0"  # of BIDS
_IGNORED = ("volumes.csv", "lesions.csv", "*_uncertainty.nii", "*_uncertainty.nii.gz", "*.dcm")
_STANDARD = (  # BIDS's own names of tissues, whose places are their numbers
    "background", "gray matter", "white matter", "cerebrospinal fluid", "bone", "soft tissue",
    "non-brain", "lesion", "cortical gray matter", "subcortical gray matter", "brainstem",
    "cerebellum",
)  # fmt: skip


@dataclass(frozen=True)
class Derivative:
    """Writes what BIDS wants beside each mask, and once for the folder.

    Beside each mask and each map of probabilities lies a side-car with its sources; the folder
    holds ``dataset_description.json``, ``desc-…_dseg.tsv`` with names and colours of the labels,
    and ``.bidsignore``, which names the tables of :func:`segjax.segment.segment`.

    Attributes:
        out: The folder.
        metadata: Of the network.
        networks: Name and SHA-256 of each of its files.
        probabilities: Whether there are maps of these.
        upright: Whether masks may lie on another grid than their image.

    Raises:
        InputError: The folder holds another data set, or masks of other labels.

    Source: Brain Imaging Data Structure 1.10, "BIDS Derivatives".

    Example:
        >>> from segjax_onnx.predict.metadata import read_metadata
        >>> Derivative(Path("bids-masks"), read_metadata("model.onnx"), [("model.onnx", "…")]).desc
        'lesion'
    """

    out: Path
    metadata: "ModelMetadata"
    networks: Sequence[tuple[str, str]]
    probabilities: bool = False
    upright: bool = False

    def __post_init__(self) -> None:
        """Refuse a folder that holds something else."""
        if self._is_foreign():
            raise InputError(
                f"{self.out}: holds a BIDS data set that segjax did not make; write to a folder "
                "of its own, such as derivatives/segjax"
            )
        if self._table.exists() and self._table.read_text(encoding="utf-8") != self._labels():
            raise InputError(f"{self._table}: has other labels; write to another folder")

    @property
    def desc(self) -> str:
        """The entity that tells its masks apart: the label, or ``segjax`` where it has several."""
        labels = self.metadata.labels[1:]
        return (re.sub("[^A-Za-z0-9]", "", labels[0]) if len(labels) == 1 else "") or "segjax"

    def files(self, case: Case, mask: Path) -> Sequence[Path]:
        """Name the side-cars of a case."""
        names = [mask.name, *([_probseg(mask)] if self.probabilities else [])]
        return [mask.with_name(f"{name.partition('.')[0]}.json") for name in names]

    def write(self, case: Case, mask: Path, loads: Sequence["LabelMeasures"]) -> None:
        """Write the side-cars of a case, and what the folder lacks."""
        sources = self._sources(case)
        labels = ", ".join(self.metadata.labels[1:])
        common: dict[str, Any] = {
            "Description": f"{labels}: {self._generated['Description']}",
            "Sources": sources,
            **({} if self.upright else {"SpatialReference": sources[0]}),
            "GeneratedBy": [self._generated],
        }
        names = self.metadata.labels[-self.metadata.out_channels :]
        own: tuple[dict[str, Any], ...] = ({"Manual": False}, {"LabelMap": list(names)})
        for file, more in zip(self.files(case, mask), own, strict=False):
            write_json(common | more, file, overwrite=True)

    def _is_foreign(self) -> bool:
        if described := self._described:
            by = described.get("GeneratedBy")
            return not isinstance(by, list) or "'Name': 'segjax'" not in str(by)
        files = list_bids(self.out) if self.out.is_dir() else []
        return any(file.name.entities.get("desc") != self.desc for file in files)

    @property
    def _described(self) -> dict[str, Any]:
        path = self.out / _DESCRIPTION
        return read_json_object(path) if path.exists() else {}

    @property
    def _table(self) -> Path:
        return self.out / f"desc-{self.desc}_dseg.tsv"

    @property
    def _generated(self) -> dict[str, str]:
        files = ", ".join(f"{name}, SHA-256 {digest}" for name, digest in self.networks)
        description = f"segmented by {self.metadata.model} ({files})"
        return {"Name": "segjax", "Version": __version__, "Description": description}

    def _labels(self) -> str:
        """Return the table of labels; ``mapping`` is BIDS's own number of a name that it knows."""
        rows = ["index\tname\tcolor\tmapping"]
        colours = [(0, 0, 0), *(structure.color for structure in self.metadata.structures)]
        for index, (name, colour) in enumerate(zip(self.metadata.labels, colours, strict=True)):
            known = name.lower() in _STANDARD
            mapping = _STANDARD.index(name.lower()) if known else "n/a"
            rows.append(f"{index}\t{' '.join(name.split())}\t{_hex(colour)}\t{mapping}")
        return "\n".join(rows) + "\n"

    def _sources(self, case: Case) -> list[str]:
        """Return BIDS URIs of the images, after the folder tells what they begin with."""
        root = dataset_root(Path(str(case.images[0])))
        link = self._describe(_relative(root, self.out))
        places = (_relative(Path(str(image)), root) for image in case.images)
        return [f"bids:{link}:{place}" for place in places]

    def _describe(self, source: str) -> str:
        """Write what the folder lacks; return the name by which it calls a source."""
        before = self._described
        links = before.get("DatasetLinks", {})
        known = {place: name for name, place in links.items()}
        link = known.get(source, f"raw{len(links) + 1}" if links else "raw")
        generators = before.get("GeneratedBy", [])
        after = {
            "Name": "Segmentations by segjax",
            "BIDSVersion": _VERSION,
            "DatasetType": "derivative",
            **before,
            "GeneratedBy": generators + [self._generated] * (self._generated not in generators),
            "DatasetLinks": links | {link: source},
            "SourceDatasets": [{"URL": place} for place in (links | {link: source}).values()],
        }
        _put(self.out / ".bidsignore", "".join(f"{line}\n" for line in _IGNORED))
        _put(self._table, self._labels())
        if after != before:
            write_json(after, self.out / _DESCRIPTION, overwrite=True)
        return link


def derived(predictor: "Predictor", out: str | Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of :func:`segjax.segment.segment` that make its folder a derivative.

    Args:
        predictor: The exported network.
        out: Folder for the masks.
        options: The others.

    Raises:
        InputError: As :class:`Derivative`.

    Example:
        >>> import segjax
        >>> derived(segjax.Predictor("model.onnx"), "bids-masks", {})["desc"]
        'lesion'
    """
    derivative = Derivative(
        Path(out),
        predictor.metadata,
        [(file.name, sha256_files(file)) for file in predictor.files],
        probabilities=options.get("probabilities", False),
        upright=options.get("resample", False),
    )
    return {"desc": derivative.desc, "companions": [*options.get("companions", ()), derivative]}


def _put(path: Path, text: str) -> None:
    """Write a file that is not there yet."""
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _probseg(mask: Path) -> str:
    return mask.name.replace("_dseg.", "_probseg.")


def _hex(colour: Sequence[int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # on another drive
        return path.absolute().as_uri()
