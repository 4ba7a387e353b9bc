"""``segjax report``: the page of one patient."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from tyro.conf import Positional, arg

from segjax.cli.options import LABELS, LABELS_OF_DATA
from segjax.errors import InputError
from segjax.text import plural

if TYPE_CHECKING:
    from segjax.volume import Volume

_NONE = "(default: none)"
_MOST = 50  # values of a mask


@dataclass(frozen=True)
class Report:
    """Measure the lesions of one patient, and write a page for a reader.

    Volumes in total and by size, the two diameters of every lesion, the slices on which
    they were measured with scale bar and the patient's sides, and what casts doubt on
    them: a brain or a lesion cut off at the image's edge, thick slices and, with --model,
    an image unlike those that the network was trained on. No true mask is needed, and
    none is compared.

    DIR gets report.html (one file that loads nothing), report.pdf (one or two sheets of A4)
    and figures/ (each slice and each enlarged lesion as PNG and SVG). A file that ends in
    .html or .pdf is written alone. Of the patient's identity nothing gets in but the names of
    the files; --title names the page.

    Examples:
        segjax report lesions.nii.gz flair.nii.gz
        segjax report lesions.nii.gz flair.nii.gz -o report --language fr
        segjax report mask.nii.gz flair.nii.gz -o report --model run/model.onnx
        segjax report mask.nii.gz t1.nii.gz -o 7.html --title "Case 7" --criteria rano
        segjax report mask.png slice.png -o report --labels 255=tumour --spacing 0.49 0.49
    """

    mask: Annotated[Positional[Path], arg(metavar="MASK")]
    """Label map: 0 is background, every other value a label."""
    image: Annotated[Positional[Path], arg(metavar="IMAGE")]
    """Image on the same grid (NIfTI, NRRD, MetaImage, PNG, NPY, DICOM)."""
    out: Annotated[
        Path | None,
        arg(aliases=["-o"], metavar="DIR|FILE", help_behavior_hint="(default: MASK_report)"),
    ] = None
    """Folder, or a file that ends in .html or .pdf."""
    language: Annotated[str, arg(metavar="{en,fr}")] = "en"
    """Language of the page."""
    title: Annotated[
        str | None, arg(metavar="TEXT", help_behavior_hint="(default: name of the image)")
    ] = None
    """What the page calls the patient."""
    coding: Annotated[
        tuple[str, ...], arg(name="labels", metavar=LABELS, help_behavior_hint=LABELS_OF_DATA)
    ] = ()
    """What the values in MASK stand for: 255=lesion, 1,4=core, 2=background, 3=ignore."""
    names: Annotated[
        tuple[str, ...],
        arg(metavar="NAME...", help_behavior_hint="(default: of MASK, of --model, or numbers)"),
    ] = ()
    """Names of the labels 1, 2, ..."""
    model: Annotated[Path | None, arg(aliases=["-m"], metavar="FILE", help_behavior_hint=_NONE)] = (
        None
    )
    """Network that made the mask: warn where the image is unlike those of its training."""
    brain: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint=_NONE)] = None
    """Mask of the brain, or an image of it alone: how deep lesions lie, whether it is cut off."""
    zones: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint=_NONE)] = None
    """Label map of FreeSurfer, SynthSeg or FastSurfer, or the word atlas: zones of MS lesions."""
    criteria: Annotated[tuple[str, ...], arg(metavar="NAME...", help_behavior_hint=_NONE)] = ()
    """Figures to tell: rano, rano-meningioma, rano-bm, recist-1.1."""
    spacing: Annotated[
        tuple[float, float] | None, arg(metavar="MM MM", help_behavior_hint="(default: pixels)")
    ] = None
    """Height and width of the pixels of a picture, which does not tell them."""
    overwrite: Annotated[bool, arg(help_behavior_hint="")] = False
    """Replace files of an earlier report."""

    def __call__(self) -> None:
        """Write the page and print where it is."""
        from segjax.cli.console import print_facts
        from segjax.data.io.formats import read_image, stem
        from segjax.evaluate.atlas import find_zones
        from segjax.evaluate.measure import measure_mask
        from segjax.grid import grid
        from segjax.report.patient import Patient, write_patient

        begin = time.perf_counter()
        out = self.out or Path(f"{stem(self.mask)}_report")
        self._check(out)
        image = self._placed(read_image(self.image))
        mask, names = self._mask(image)
        doubts, trained = self._network(image)
        brain = self._brain(image)
        place = grid(mask)
        zones = find_zones(self.zones, place, image=image, brain=brain) if self.zones else None
        try:
            found = measure_mask(
                mask, labels=names or trained, image=image, brain=brain, zones=zones
            )
        except InputError as error:
            raise InputError(f"{self.mask}: {error}") from None
        patient = Patient(
            self.title or stem(self.image),
            image,
            mask,
            found,
            brain=brain,
            doubts=doubts,
            criteria=self.criteria,
            files=self._files(),
        )
        seconds = time.perf_counter() - begin
        written = write_patient(
            patient, out, language=self.language, seconds=seconds, overwrite=self.overwrite
        )
        print_facts({path.suffix[1:]: path for path in written})

    def _check(self, out: Path) -> None:
        """Refuse, before any work, what cannot be written or is not known."""
        from segjax.evaluate.response import criteria_of
        from segjax.report.patient import check_free
        from segjax.report.patient_texts import language_of

        language_of(self.language)
        for name in self.criteria:
            criteria_of(name)
        check_free(out, overwrite=self.overwrite)

    def _mask(self, image: "Volume") -> tuple["Volume", Sequence[str]]:
        """Return the mask and the names of its labels, the background first, where it has any."""
        from segjax.data.io.formats import check_same_grid, read_label, segment_names
        from segjax.data.labels import IGNORED, asked_coding
        from segjax.evaluate.pairs import coding_of
        from segjax.grid import grid

        coding = asked_coding(self.coding, names=self.names) or coding_of(self.mask)
        mask = self._placed(read_label(self.mask, coding=coding, like=grid(image)))
        if coding.ignored is not None:
            mask = mask.with_data(np.where(mask.data == IGNORED, 0, mask.data))
        check_same_grid(image, mask, (str(self.image), str(self.mask)))
        if (count := len(np.unique(mask.data))) > _MOST:
            raise InputError(
                f"{self.mask}: holds {count} values; is it a mask? The order is MASK IMAGE"
            )
        stored = segment_names(self.mask)
        return mask, coding.names or (("background", *stored) if stored else ())

    def _placed(self, picture: "Volume") -> "Volume":
        """Give a picture the size of its pixels."""
        from segjax.volume import Volume

        if self.spacing is None:
            return picture
        if picture.spatial_dims != 2:
            raise InputError("--spacing is of pictures; the affine of a volume tells it")
        if min(self.spacing) <= 0:
            raise InputError("--spacing: give two lengths over 0, in mm")
        return Volume(picture.data, np.diag([*self.spacing, 1.0]))

    def _brain(self, image: "Volume") -> "Volume | None":
        from segjax.data.io.formats import check_same_grid, read_image

        if self.brain is None:
            return None
        brain = read_image(self.brain)
        brain = self._placed(brain.with_data(brain.channels_last[..., 0]))
        check_same_grid(image, brain, (str(self.image), str(self.brain)))
        return brain

    def _network(self, image: "Volume") -> tuple[tuple[str, ...] | None, Sequence[str]]:
        """Return in what the image is unlike those of a training, and the network's labels."""
        from segjax.data.prepare.pipeline import Pipeline
        from segjax.data.seen import Sight, intensity_spans

        if self.model is None:
            return (), ()
        from segjax_onnx.predict.metadata import read_metadata
        from segjax_onnx.predict.network import find_files

        metadata = read_metadata(find_files(self.model)[0])
        if image.channels != metadata.in_channels:
            raise InputError(
                f"{self.model}: takes {plural(metadata.in_channels, 'channel')}, but {self.image} "
                f"has {image.channels}: give the image that the network saw, or leave --model out"
            )
        if metadata.seen is None:
            return None, metadata.labels
        processed, grids = Pipeline.from_json(metadata.pipeline).trace(image)
        sight = Sight(grids[0], grids[-1], intensity_spans(processed.data))
        return tuple(metadata.seen.doubts(sight, axes=metadata.spatial_dims)), metadata.labels

    def _files(self) -> dict[str, str]:
        files = {name: getattr(self, name) for name in ("image", "mask", "model", "brain", "zones")}
        return {name: path.name for name, path in files.items() if path is not None}
