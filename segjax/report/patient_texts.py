"""Words and numbers of a patient's page, in English and in French."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from segjax.errors import InputError
from segjax.text import unknown

__all__ = ["LANGUAGES", "Language", "language_of", "typeset"]

_HARD, _NARROW = "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True)
class Language:
    """How a page speaks.

    Attributes:
        code: Of ISO 639-1, as HTML's ``lang`` takes it.
        texts: By name; two forms, for one and for many, are parted by ``|``.
        decimal: What stands before decimals.
        thousands: What stands between groups of three digits.
        single: Numbers that go with the first form.
        foreign: Patterns of English sentences of others, and what they are here.
        names: English words of others, and what they are here.
    """

    code: str
    texts: Mapping[str, str]
    decimal: str
    thousands: str
    single: tuple[int, ...]
    foreign: Mapping[str, str]
    names: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        """Return the text of a name."""
        return self.texts[name]

    def say(self, name: str, /, **values: object) -> str:
        """Return a text with values in it.

        Example:
            >>> language_of("fr").say("slice_of", plane="axiale", number=4, count=22)
            'Coupe axiale 4 sur 22'
        """
        return self.texts[name].format(**values)

    def many(self, name: str, count: int, /, **values: object) -> str:
        """Return the form of a text that goes with a number.

        Example:
            >>> language_of("en").many("lesions", 0), language_of("fr").many("lesions", 0)
            ('0 lesions', '0 lésion')
        """
        one, many = self.texts[name].split("|")
        form = one if count in self.single else many
        return form.format(n=self.number(count), **values)

    def number(self, value: float, digits: int = 0) -> str:
        """Write a number.

        Example:
            >>> language_of("en").number(-1234.56, 1), language_of("fr").number(0.5, 2)
            ('−1,234.6', '0,50')
        """
        text = f"{value:,.{digits}f}"
        if not text.strip("-0.,"):
            text = text.removeprefix("-")
        signs = {",": self.thousands, ".": self.decimal, "-": "−"}
        return "".join(signs.get(sign, sign) for sign in text)

    def unit(self, number: str, unit: str) -> str:
        r"""Join a number and its unit, which no line break parts.

        Example:
            >>> language_of("en").unit("2.5", "mm")
            '2.5\xa0mm'
        """
        return f"{number}{_HARD}{self.names.get(unit, unit)}"

    def translate(self, text: str) -> str:
        """Return what others say in English; unchanged where it is not known.

        Example:
            >>> language_of("fr").translate("periventricular")
            'périventriculaire'
        """
        if text in self.names:
            return self.names[text]
        for pattern, replacement in self.foreign.items():
            if match := re.fullmatch(pattern, text):
                return _numbers(match.expand(replacement), self)
        return text


def language_of(code: str) -> Language:
    """Return a language by its code.

    Raises:
        InputError: No page is written in it.

    Example:
        >>> language_of("de")
        Traceback (most recent call last):
        segjax.errors.InputError: unknown language 'de': known are en, fr
    """
    if code not in LANGUAGES:
        raise InputError(unknown("language", code, list(LANGUAGES)))
    return LANGUAGES[code]


def _numbers(text: str, language: Language) -> str:
    return re.sub(r"(?<=\d)\.(?=\d)", language.decimal, text)


_ENGLISH = {
    "title": "Measurements: {name}",
    "not_for_diagnosis": "Not for diagnosis.",
    "not_for_diagnosis_more": "Outlines and figures come from software that is no approved medical "
    "device. Check every outline by eye.",
    "page_of": "page {number} of {count}",
    "warnings": "To check",
    "no_lesion": "No lesion found",
    "no_lesion_more": "The mask is empty: no voxel bears a label. The middle slice is shown.",
    "no_lesion_of": "No lesion.",
    "label": "label",
    "total": "total",
    "lesions": "{n} lesion|{n} lesions",
    "lesions_name": "lesion|lesions",
    "largest": "largest lesion",
    "diameters_of_one": "two diameters",
    "largest_diameters": "largest lesion: two diameters",
    "summary": "In total",
    "by_size": "By size",
    "size_class": "size",
    "number_of": "lesions",
    "share": "share",
    "load": "total",
    "below": "below {high}",
    "between": "{low} to {high}",
    "above": "{low} or more",
    "by_zone": "By zone",
    "zone": "zone",
    "no_zone": "not known",
    "criteria": "Criteria",
    "criterion": "criterion",
    "figure": "figure",
    "counted": "of",
    "lesion_numbers": "lesion {numbers}|lesions {numbers}",
    "none_measurable": "no measurable lesion",
    "none": "none",
    "dissemination": "dissemination in space (McDonald 2017)",
    "fulfilled": "fulfilled (brain alone)",
    "not_fulfilled": "not fulfilled (brain alone)",
    "key_slices": "Slices",
    "slice_of": "{plane} slice {number} of {count}",
    "picture": "Picture",
    "axial": "axial",
    "coronal": "coronal",
    "sagittal": "sagittal",
    "on_it": "Lesion {numbers}; diameters drawn: {drawn}.|"
    "Lesions {numbers}; diameters drawn: {drawn}.",
    "shown_of": "The slices on which the diameters of the largest lesions were measured. "
    "{seen} of {count} lesions are seen on them; the others are in the table alone.",
    "overview_alt": "{slice} with outlines of lesions {numbers}",
    "detail_alt": "lesion {number}, enlarged, with its two diameters",
    "outline": "outline: {label}",
    "longest_line": "longest diameter",
    "perpendicular_line": "its longest perpendicular",
    "table": "Every lesion",
    "number": "no.",
    "volume": "volume ({unit})",
    "area": "area ({unit})",
    "diameters": "diameters ({unit})",
    "feret": "longest in 3D ({unit})",
    "centre": "centre ({unit})",
    "centre_pixel": "centre (row, column)",
    "edge": "to the brain's edge (mm)",
    "contrast": "contrast",
    "mean": "mean",
    "sphericity": "sphericity",
    "slice": "slice",
    "rest": "{n} smaller lesion|{n} smaller lesions",
    "rest_of": "and {n} smaller one, {size} in all, which the HTML page lists|"
    "and {n} smaller ones, {size} in all, which the HTML page lists",
    "lines_left": "and {n} more, which the HTML page tells|"
    "and {n} more, which the HTML page tells",
    "left_out": "No room for {labels}: the HTML page lists them.",
    "definitions": "What is measured",
    "define_lesion": "A lesion is a connected piece of a label; 1 is the largest. Its volume is "
    "that of its voxels.",
    "define_lesion_flat": "A lesion is a connected piece of a label; 1 is the largest. Its area is "
    "that of its pixels.",
    "define_diameters": "Diameters: the longest in one axial slice, its longest perpendicular in "
    "that slice, and the extent across the slices.",
    "define_diameters_flat": "Diameters: the longest, and its longest perpendicular.",
    "define_centre": "Centre: the mean place of its voxels in millimetres from the scanner's "
    "origin, to the patient's right (R) or left (L), front (A) or back (P), head (S) or feet (I).",
    "define_contrast": "Contrast: mean of the image over the lesion minus that of the tissue "
    "within 3\N{NO-BREAK SPACE}{unit} around it.",
    "define_edge": "Distance to the brain's edge: of the voxel that is nearest to it, in 3D.",
    "convention": "Radiological convention: the patient's right (R) is on the left of the picture.",
    "convention_flat": "Pictures are shown as they are stored; they do not tell the patient's "
    "sides.",
    "pixels_only": "The file does not tell the size of its pixels: lengths are in pixels.",
    "oblique": "The slices lie {angle} off the patient's axes: letters name the nearest side.",
    "made": "How it came about",
    "date": "date",
    "program": "program",
    "image": "image",
    "mask": "mask",
    "model": "network",
    "brain": "brain",
    "zones": "zones",
    "grid": "grid",
    "grid_text": "{shape} voxels of {spacing} mm",
    "grid_flat": "{shape} pixels of {spacing} mm",
    "grid_pixels": "{shape} pixels",
    "time": "time",
    "warn_edge": "Lesion {numbers} of {label} reaches the edge of the image: its size is a lower "
    "bound.|Lesions {numbers} of {label} reach the edge of the image: their sizes are lower "
    "bounds.",
    "warn_brain": "The brain is cut off at the edge of the image ({sides}): lesions beyond it are "
    "not counted.",
    "warn_outside": "{share} of {label} lies outside the brain.",
    "warn_thick": "Slices lie {spacing} apart: lesions between them are missed, and sizes across "
    "them are rough.",
    "warn_tiny": "{n} lesion is smaller than a sphere of 3 mm ({size}).|"
    "{n} lesions are smaller than a sphere of 3 mm ({size}).",
    "warn_model": "The image differs from those that the network was trained on: {doubt}.",
    "warn_model_unknown": "The network's file does not tell what it was trained on: whether the "
    "image is alike is not known.",
    "right": "right",
    "left": "left",
    "front": "front",
    "back": "back",
    "head": "head",
    "feet": "feet",
    "sides": "RLAPSI",
    "and": " and ",
    "colon": ": ",
}  # fmt: skip

_FRENCH = {
    "title": "Mesures : {name}",
    "not_for_diagnosis": "Ne pas utiliser pour le diagnostic.",
    "not_for_diagnosis_more": "Contours et mesures proviennent d’un logiciel qui n’est pas un "
    "dispositif médical certifié. Vérifiez chaque contour à l’œil.",
    "page_of": "page {number} sur {count}",
    "warnings": "À vérifier",
    "no_lesion": "Aucune lésion trouvée",
    "no_lesion_more": "Le masque est vide : aucun voxel ne porte d’étiquette. La coupe médiane est "
    "affichée.",
    "no_lesion_of": "Aucune lésion.",
    "label": "étiquette",
    "total": "total",
    "lesions": "{n} lésion|{n} lésions",
    "lesions_name": "lésion|lésions",
    "largest": "plus grande lésion",
    "diameters_of_one": "deux diamètres",
    "largest_diameters": "plus grande lésion : deux diamètres",
    "summary": "Au total",
    "by_size": "Par taille",
    "size_class": "taille",
    "number_of": "lésions",
    "share": "part",
    "load": "total",
    "below": "moins de {high}",
    "between": "de {low} à {high}",
    "above": "{low} ou plus",
    "by_zone": "Par région",
    "zone": "région",
    "no_zone": "inconnue",
    "criteria": "Critères",
    "criterion": "critère",
    "figure": "valeur",
    "counted": "d’après",
    "lesion_numbers": "lésion {numbers}|lésions {numbers}",
    "none_measurable": "aucune lésion mesurable",
    "none": "aucune",
    "dissemination": "dissémination spatiale (McDonald 2017)",
    "fulfilled": "remplie (cerveau seul)",
    "not_fulfilled": "non remplie (cerveau seul)",
    "key_slices": "Coupes",
    "slice_of": "Coupe {plane} {number} sur {count}",
    "picture": "Image",
    "axial": "axiale",
    "coronal": "coronale",
    "sagittal": "sagittale",
    "on_it": "Lésion {numbers} ; diamètres tracés : {drawn}.|"
    "Lésions {numbers} ; diamètres tracés : {drawn}.",
    "shown_of": "Coupes sur lesquelles les diamètres des plus grandes lésions ont été mesurés. "
    "Lésions visibles : {seen} sur {count} ; les autres figurent seulement dans le tableau.",
    "overview_alt": "{slice}, avec le contour des lésions {numbers}",
    "detail_alt": "lésion {number}, agrandie, avec ses deux diamètres",
    "outline": "contour : {label}",
    "longest_line": "plus grand diamètre",
    "perpendicular_line": "sa plus grande perpendiculaire",
    "table": "Toutes les lésions",
    "number": "nº",
    "volume": "volume ({unit})",
    "area": "aire ({unit})",
    "diameters": "diamètres ({unit})",
    "feret": "plus grand en 3D ({unit})",
    "centre": "centre ({unit})",
    "centre_pixel": "centre (ligne, colonne)",
    "edge": "au bord du cerveau (mm)",
    "contrast": "contraste",
    "mean": "moyenne",
    "sphericity": "sphéricité",
    "slice": "coupe",
    "rest": "{n} lésion plus petite|{n} lésions plus petites",
    "rest_of": "et {n} plus petite, {size} en tout : voir la page HTML|"
    "et {n} plus petites, {size} en tout : voir la page HTML",
    "lines_left": "et {n} de plus : voir la page HTML|et {n} de plus : voir la page HTML",
    "left_out": "Faute de place, sans {labels} : voir la page HTML.",
    "definitions": "Ce qui est mesuré",
    "define_lesion": "Une lésion est un ensemble connexe de voxels d’une même étiquette ; la 1 est "
    "la plus grande. Son volume est celui de ses voxels.",
    "define_lesion_flat": "Une lésion est un ensemble connexe de pixels d’une même étiquette ; la "
    "1 est la plus grande. Son aire est celle de ses pixels.",
    "define_diameters": "Diamètres : le plus grand dans une coupe axiale, sa plus grande "
    "perpendiculaire dans cette coupe, puis l’étendue à travers les coupes.",
    "define_diameters_flat": "Diamètres : le plus grand, puis sa plus grande perpendiculaire.",
    "define_centre": "Centre : position moyenne de ses voxels, en millimètres depuis l’origine de "
    "l’appareil, vers la droite (D) ou la gauche (G) du patient, l’avant (A) ou l’arrière (P), la "
    "tête (S) ou les pieds (I).",
    "define_contrast": "Contraste : moyenne de l’image dans la lésion, moins celle du tissu qui "
    "l’entoure sur 3\N{NO-BREAK SPACE}{unit}.",
    "define_edge": "Distance au bord du cerveau : celle du voxel le plus proche, en 3D.",
    "convention": "Convention radiologique : la droite du patient (D) est à gauche de l’image.",
    "convention_flat": "Les images sont affichées telles qu’elles sont enregistrées ; elles "
    "n’indiquent pas les côtés du patient.",
    "pixels_only": "Le fichier n’indique pas la taille de ses pixels : les longueurs sont en "
    "pixels.",
    "oblique": "Les coupes sont inclinées de {angle} par rapport aux axes du patient : les lettres "
    "désignent le côté le plus proche.",
    "made": "Comment ce document a été établi",
    "date": "date",
    "program": "logiciel",
    "image": "image",
    "mask": "masque",
    "model": "réseau",
    "brain": "cerveau",
    "zones": "régions",
    "grid": "grille",
    "grid_text": "{shape} voxels de {spacing} mm",
    "grid_flat": "{shape} pixels de {spacing} mm",
    "grid_pixels": "{shape} pixels",
    "time": "durée",
    "warn_edge": "La lésion {numbers} ({label}) atteint le bord de l’image : sa taille réelle peut "
    "être plus grande.|Les lésions {numbers} ({label}) atteignent le bord de l’image : leur taille "
    "réelle peut être plus grande.",
    "warn_brain": "Le cerveau est coupé au bord de l’image ({sides}) : les lésions au-delà ne sont "
    "pas comptées.",
    "warn_outside": "{share} de « {label} » se trouve hors du cerveau.",
    "warn_thick": "Les coupes sont distantes de {spacing} : des lésions situées entre elles "
    "peuvent manquer, et les tailles à travers les coupes sont approximatives.",
    "warn_tiny": "{n} lésion est plus petite qu’une sphère de 3 mm ({size}).|"
    "{n} lésions sont plus petites qu’une sphère de 3 mm ({size}).",
    "warn_model": "L’image s’écarte de celles sur lesquelles le réseau a été entraîné : {doubt}.",
    "warn_model_unknown": "Le fichier du réseau n’indique pas sur quelles images il a été "
    "entraîné : on ne sait pas si celle-ci leur ressemble.",
    "right": "droite",
    "left": "gauche",
    "front": "avant",
    "back": "arrière",
    "head": "tête",
    "feet": "pieds",
    "sides": "DGAPSI",
    "and": " et ",
    "colon": " : ",
}  # fmt: skip

_NAMES = {
    "periventricular": "périventriculaire",
    "juxtacortical": "juxtacorticale",
    "infratentorial": "sous-tentorielle",
    "deep white matter": "substance blanche profonde",
    "lesion": "lésion",
    "tumor": "tumeur",
    "tumour": "tumeur",
    "meningioma": "méningiome",
    "edema": "œdème",
    "px": "px",
    "pixels": "pixels",
}

_FOREIGN = {
    r"its voxels of (.+) mm are far from (.+) mm of the training": (
        r"ses voxels de \1 mm sont loin de ceux de l’entraînement (\2 mm)"
    ),
    r"its intensities after preprocessing, (.+) to (.+), are far from (.+) to (.+) of the "
    r"training": (
        r"ses intensités après prétraitement, de \1 à \2, sont loin de celles de l’entraînement "
        r"(de \3 à \4)"
    ),
    r"its intensities of channel (\d+) after preprocessing, (.+) to (.+), are far from (.+) to "
    r"(.+) of the training": (
        r"ses intensités du canal \1 après prétraitement, de \2 à \3, sont loin de celles de "
        r"l’entraînement (de \4 à \5)"
    ),
}


def typeset(text: str) -> str:
    """Put no-break spaces where French typography wants them.

    Example:
        >>> typeset("Vu ?") == "Vu\N{NARROW NO-BREAK SPACE}?"
        True
    """
    text = re.sub(r" (?=[;!?])", _NARROW, text)
    return re.sub(r" (?=[:»])|(?<=«) ", _HARD, text)


LANGUAGES = {
    "en": Language("en", _ENGLISH, ".", ",", (1,), {}, {}),
    "fr": Language(
        "fr",
        {name: typeset(text) for name, text in _FRENCH.items()},
        ",",
        _NARROW,
        (0, 1),
        _FOREIGN,
        _NAMES,
    ),
}
"""Languages by their codes."""
