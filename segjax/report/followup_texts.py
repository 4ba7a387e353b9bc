"""Words of a follow-up's page, in English and in French, beside those of a patient's page."""

from dataclasses import replace

from segjax.report.patient_texts import Language, language_of, typeset

__all__ = ["followup_language"]

_ENGLISH = {
    "title": "Follow-up: {name}",
    "title_alone": "Follow-up",
    "verdict": "What changed",
    "pair": "{first} → {second}",
    "from_to": "From {first} to {second}",
    "first_new": "{n} new lesion|{n} new lesions",
    "first_enlarged": "{n} enlarged lesion|{n} enlarged lesions",
    "first_shrunk": "{n} shrunk lesion|{n} shrunk lesions",
    "first_gone": "{n} lesion gone|{n} lesions gone",
    "more_new": "{n} new|{n} new",
    "more_enlarged": "{n} enlarged|{n} enlarged",
    "more_shrunk": "{n} shrunk|{n} shrunk",
    "more_gone": "{n} gone|{n} gone",
    "no_change": "no change found",
    "no_lesion_at_all": "no lesion at either visit",
    "not_compared": "Nothing was compared: there are no outlines, and the images could not be.",
    "load_from_to": "load {before} → {after} ({change})",
    "load_alone": "load {before} → {after}",
    "in_days": "in {n} day|in {n} days",
    "kind": "kind",
    "new": "new",
    "enlarged": "enlarged",
    "stable": "stable",
    "shrunk": "shrunk",
    "gone": "gone",
    "lesions_new": "new lesion|new lesions",
    "lesions_enlarged": "enlarged|enlarged",
    "lesions_stable": "stable|stable",
    "lesions_shrunk": "shrunk|shrunk",
    "lesions_gone": "gone|gone",
    "load_of": "load ({label})",
    "load_of_one": "load",
    "sure": "changes with a confidence of {least} or more",
    "sure_of": "{n} of {count}",
    "changes": "Each change",
    "changes_told": "The largest first; before, after and the difference at the same place, half-"
    "way between the visits.",
    "changes_left": "{n} smaller change is in the table alone.|"
    "{n} smaller changes are in the table alone.",
    "nothing_changed": "No change found",
    "nothing_changed_more": "No lesion appeared, grew, shrank or vanished by more than what two "
    "scans of the same lesion may differ by.",
    "nothing_to_find": "What could have been found is not known: no check was run.",
    "before": "before",
    "after": "after",
    "difference": "difference",
    "change_of_outlines": "change of outlines",
    "outline_before": "outline before",
    "outline_after": "outline after",
    "outline_seen": "{kind}, seen in the images alone",
    "gained": "added",
    "lost": "lost",
    "grey_scale": "Difference: mid-grey is unchanged, white is brighter than before by {reach} "
    "times what unchanged tissue scatters, black darker.",
    "no_images": "No images were given: outlines alone are drawn.",
    "change_heading": "{number} · {kind}",
    "panel_alt": "change {number} ({kind}), {which}, axial slice",
    "confidence": "confidence",
    "evidence": "seen in",
    "masks": "outlines",
    "images": "images",
    "both": "outlines and images",
    "diameters_name": "diameters",
    "change_name": "change",
    "rate": "change a year",
    "yearly": "a year",
    "doubling": "doubling time",
    "parts": "pieces",
    "centre_name": "centre",
    "slice_name": "slice",
    "days_unit": "{n} day|{n} days",
    "tolerance": "may differ by",
    "overview": "Overview",
    "overview_told": "Changes on the slices of {visit} that show most of them, in the colour and "
    "with the sign of their kind, and the number of each.",
    "overview_nothing": "Three slices of {visit}.",
    "tile_alt": "{slice} with changes {numbers}",
    "all_lesions": "Every lesion",
    "show": "Show:",
    "volume_before": "before (ml)",
    "volume_after": "after (ml)",
    "change_ml": "change (ml)",
    "change_percent": "change (%)",
    "tolerance_ml": "tolerance (ml)",
    "diameters_before": "diameters before (mm)",
    "diameters_after": "diameters after (mm)",
    "percent_per_year": "% a year",
    "doubling_days": "doubling (days)",
    "number": "no.",
    "centre": "centre (mm)",
    "label_name": "label",
    "rest": "{n} smaller change or stable lesion|{n} smaller changes or stable lesions",
    "rest_of": "and {n} more, which the HTML page lists|and {n} more, which the HTML page lists",
    "loads": "Loads over time",
    "visits": "Visits",
    "loads_alt": "volume of each label at each visit",
    "visit": "visit",
    "date": "date",
    "since_first": "days since the first",
    "load_axis": "volume (ml)",
    "lesion_count": "lesions",
    "growth": "Growth",
    "growth_lesion": "lesion",
    "growth_volume": "volume",
    "growth_year": "volume a year",
    "growth_longest": "longest diameter",
    "growth_perpendicular": "perpendicular",
    "growth_area": "product of both (%)",
    "rano": "RANO meningioma",
    "growth_told": "Rates are those of an even growth between both visits, a doubling time that of "
    "an exponential one: days · ln 2 / ln (after / before). Scans that lie close together make "
    "rates uncertain. RANO's class is that of the product of both diameters against the visit "
    "before, of masses of 10 mm and more; progression is judged against the smallest size so far "
    "(R. Y. Huang et al., Neuro-Oncology 21, 2019).",
    "registration": "Registration",
    "registration_told": "Chequered: squares of {first} and of {second} in turn. Edges of the "
    "brain and of the ventricles should run through.",
    "chequer_alt": "chequered {plane} slice of both visits",
    "registration_kind": "kind",
    "rigid": "rigid: shifted and turned",
    "affine": "affine: shifted, turned, scaled and sheared",
    "unregistered": "none: the files' headers were trusted",
    "moved": "moved",
    "turned": "turned",
    "overlap": "overlap of the brains (Dice)",
    "agreement": "edges that run alike (by chance 0.33)",
    "similarity": "mutual information (nats)",
    "inconsistency": "forward against backward",
    "half_way": "half-way grid",
    "criteria_told": "Counts of T2 lesions by software; a diagnosis or a change of treatment takes "
    "a radiologist and a neurologist. The clinical halves of the scores, relapses and disability, "
    "and enhancing lesions are not looked at. Rio's scores are of the first year of a treatment "
    "with interferon.",
    "active": "active lesions (new or enlarged)",
    "rio": "Rio score, its MRI part: more than 2 active lesions",
    "modified_rio": "modified Rio score, its MRI part: more than 4 new T2 lesions",
    "dit": "dissemination in time (McDonald 2017): a new T2 lesion against a baseline",
    "neda": "no new or enlarged lesion (MRI part of NEDA-3)",
    "reached": "reached",
    "met": "yes",
    "not_met": "no",
    "sources": "J. Río et al., Multiple Sclerosis 15, 2009 (Rio score); M. P. Sormani et al., "
    "Multiple Sclerosis 19, 2013 (modified Rio score); A. J. Thompson et al., Lancet Neurology 17, "
    "2018 (McDonald 2017); G. Giovannoni et al., Multiple Sclerosis and Related Disorders 4, 2015 "
    "(NEDA).",
    "check": "What these scans allow to find",
    "check_told": "{n} lesion of known size was put into {visit}, and the follow-up was run again. "
    "Shapes: {shapes}.|{n} lesions of known size were put into {visit}, and the follow-up was run "
    "again. Shapes: {shapes}.",
    "check_images": "No network outlined them: what the images show was counted, not what a reader "
    "would have drawn.",
    "check_found": "{size} would have been found in {share} of cases ({low} to {high}).",
    "found_between": "A new lesion of {low} to {high} mm",
    "found_below": "A new lesion under {high} mm",
    "found_above": "A new lesion of {low} mm or more",
    "check_none": "No lesion was put in.",
    "check_false": "False changes: {mean} per comparison (in {n} repeat).|"
    "False changes: {mean} per comparison (in {n} repeats).",
    "check_copies": "Copies of a scan followed up against the scan itself, shifted, turned and "
    "resampled: changes in {changed} of {count}.",
    "check_size": "diameter",
    "check_put": "put in",
    "check_hit": "found",
    "check_share": "share (95 %)",
    "check_all": "all",
    "sizes_between": "{low} to {high} mm",
    "sizes_below": "under {high} mm",
    "sizes_above": "{low} mm and more",
    "seed": "seed",
    "shapes": "shapes",
    "warn_unreliable": "The intensities of {first} and {second} cannot be compared: {reason}",
    "warn_not_compared": "The intensities of {first} and {second} were not compared.",
    "outlines_alone": "Changes rest on the outlines alone.",
    "warn_unregistered": "The visits were not registered: the places that the files' headers tell "
    "were trusted.",
    "warn_overlap": "The brains of {first} and {second} overlap by {overlap} alone: look whether "
    "they lie on each other.",
    "warn_inconsistent": "Registered forward and backward, {first} and {second} differ by {mm}: "
    "small changes are not certain.",
    "warn_slices": "Slices lie {spacing} apart: changes of lesions that are smaller are not "
    "certain.",
    "warn_dates": "Dates are not known: no rate of growth is told.",
    "warn_unsure": "{n} change is uncertain (confidence below {least}): {numbers}.|"
    "{n} changes are uncertain (confidence below {least}): {numbers}.",
    "warn_disagree": "{n} lesion is told as stable although its outlines changed ({change} in "
    "all), as the images do not show it: {numbers}.|{n} lesions are told as stable although their "
    "outlines changed ({change} in all), as the images do not show it: {numbers}.",
    "warn_drift": "Outlines of {n} lesions that are told as stable changed by {change} in all: "
    "each within its tolerance, but in the same direction. Were both drawn in one way?",
    "warn_images": "{n} change is seen in the images and not in the outlines: {numbers}.|"
    "{n} changes are seen in the images and not in the outlines: {numbers}.",
    "warn_images_alone": "No outlines were given: a place that became brighter is told as new, one "
    "that became darker as gone, even where a lesion was there before or still is. Small and faint "
    "changes are missed.",
    "warn_copies": "The check found changes in {changed} of {count} copies of one scan, where "
    "there are none: some of the changes told here may be false.",
    "define_kinds": "A lesion is new where nothing of the visit before lies at its place, gone the "
    "reverse; it is enlarged or shrunk where its volume changed by more than its tolerance, which "
    "is what two scans of one lesion may differ by on these grids; else it is stable. A change "
    "that is seen in the images alone, where no outline lies, is told as new where they became "
    "brighter, and as gone where they became darker.",
    "define_change_diameters": "Diameters: the longest in one axial slice, and its longest "
    "perpendicular in that slice.",
    "define_change_volume": "Volumes are those within the outlines, shares of voxels at their "
    "edges counted. Loads are measured on each visit's own grid.",
    "define_confidence": "Confidence: from 0 to 1, how sure the kind is by the change of volume, "
    "by both visits' probabilities and by the images, where there are any. It is no probability of "
    "a disease.",
    "define_number": "Number: 1 is the largest change between two visits. Lesions that merge or "
    "split are told as one; a part of a lesion that changed alone is told apart.",
}  # fmt: skip

_FRENCH = {
    "title": "Suivi : {name}",
    "title_alone": "Suivi",
    "verdict": "Ce qui a changé",
    "pair": "{first} → {second}",
    "from_to": "De {first} à {second}",
    "first_new": "{n} nouvelle lésion|{n} nouvelles lésions",
    "first_enlarged": "{n} lésion agrandie|{n} lésions agrandies",
    "first_shrunk": "{n} lésion réduite|{n} lésions réduites",
    "first_gone": "{n} lésion disparue|{n} lésions disparues",
    "more_new": "{n} nouvelle|{n} nouvelles",
    "more_enlarged": "{n} agrandie|{n} agrandies",
    "more_shrunk": "{n} réduite|{n} réduites",
    "more_gone": "{n} disparue|{n} disparues",
    "no_change": "aucun changement trouvé",
    "no_lesion_at_all": "aucune lésion, ni avant ni après",
    "not_compared": "Rien n’a été comparé : il n’y a pas de contours, et les images n’ont pu l’"
    "être.",
    "load_from_to": "charge {before} → {after} ({change})",
    "load_alone": "charge {before} → {after}",
    "in_days": "en {n} jour|en {n} jours",
    "kind": "évolution",
    "new": "nouvelle",
    "enlarged": "agrandie",
    "stable": "stable",
    "shrunk": "réduite",
    "gone": "disparue",
    "lesions_new": "nouvelle lésion|nouvelles lésions",
    "lesions_enlarged": "agrandie|agrandies",
    "lesions_stable": "stable|stables",
    "lesions_shrunk": "réduite|réduites",
    "lesions_gone": "disparue|disparues",
    "load_of": "charge ({label})",
    "load_of_one": "charge",
    "sure": "changements dont la confiance est d’au moins {least}",
    "sure_of": "{n} sur {count}",
    "changes": "Chaque changement",
    "changes_told": "Le plus grand d’abord ; avant, après et la différence au même endroit, à mi-"
    "chemin entre les examens.",
    "changes_left": "{n} changement plus petit figure seulement dans le tableau.|"
    "{n} changements plus petits figurent seulement dans le tableau.",
    "nothing_changed": "Aucun changement trouvé",
    "nothing_changed_more": "Aucune lésion n’est apparue, n’a grandi, diminué ou disparu au-delà "
    "de ce qui peut séparer deux examens d’une même lésion.",
    "nothing_to_find": "On ne sait pas ce qui aurait pu être trouvé : aucun contrôle n’a été "
    "effectué.",
    "before": "avant",
    "after": "après",
    "difference": "différence",
    "change_of_outlines": "changement des contours",
    "outline_before": "contour avant",
    "outline_after": "contour après",
    "outline_seen": "{kind}, vue dans les images seules",
    "gained": "gagné",
    "lost": "perdu",
    "grey_scale": "Différence : le gris moyen est inchangé, le blanc est plus clair qu’avant de "
    "{reach} fois la dispersion du tissu inchangé, le noir plus sombre.",
    "no_images": "Aucune image n’a été fournie : seuls les contours sont tracés.",
    "change_heading": "{number} · {kind}",
    "panel_alt": "changement {number} ({kind}), {which}, coupe axiale",
    "confidence": "confiance",
    "evidence": "vu dans",
    "masks": "les contours",
    "images": "les images",
    "both": "les contours et les images",
    "diameters_name": "diamètres",
    "change_name": "changement",
    "rate": "changement par an",
    "yearly": "par an",
    "doubling": "temps de doublement",
    "parts": "morceaux",
    "centre_name": "centre",
    "slice_name": "coupe",
    "days_unit": "{n} jour|{n} jours",
    "tolerance": "peut varier de",
    "overview": "Vue d’ensemble",
    "overview_told": "Changements sur les coupes de {visit} qui en montrent le plus, dans la "
    "couleur et avec le signe de leur évolution, et le numéro de chacun.",
    "overview_nothing": "Trois coupes de {visit}.",
    "tile_alt": "{slice}, avec les changements {numbers}",
    "all_lesions": "Toutes les lésions",
    "show": "Afficher :",
    "volume_before": "avant (ml)",
    "volume_after": "après (ml)",
    "change_ml": "changement (ml)",
    "change_percent": "changement (%)",
    "tolerance_ml": "tolérance (ml)",
    "diameters_before": "diamètres avant (mm)",
    "diameters_after": "diamètres après (mm)",
    "percent_per_year": "% par an",
    "doubling_days": "doublement (jours)",
    "number": "nº",
    "centre": "centre (mm)",
    "label_name": "étiquette",
    "rest": "{n} changement plus petit ou lésion stable|"
    "{n} changements plus petits ou lésions stables",
    "rest_of": "et {n} de plus : voir la page HTML|et {n} de plus : voir la page HTML",
    "loads": "Charges au cours du temps",
    "visits": "Examens",
    "loads_alt": "volume de chaque étiquette à chaque examen",
    "visit": "examen",
    "date": "date",
    "since_first": "jours depuis le premier",
    "load_axis": "volume (ml)",
    "lesion_count": "lésions",
    "growth": "Croissance",
    "growth_lesion": "lésion",
    "growth_volume": "volume",
    "growth_year": "volume par an",
    "growth_longest": "plus grand diamètre",
    "growth_perpendicular": "perpendiculaire",
    "growth_area": "produit des deux (%)",
    "rano": "RANO méningiome",
    "growth_told": "Les taux sont ceux d’une croissance régulière entre les deux examens, le temps "
    "de doublement celui d’une croissance exponentielle : jours · ln 2 / ln (après / avant). Des "
    "examens rapprochés rendent les taux incertains. La classe RANO est celle du produit des deux "
    "diamètres par rapport à l’examen précédent, pour des masses de 10 mm ou plus ; une "
    "progression se juge par rapport à la plus petite taille connue (R. Y. Huang et al., "
    "Neuro-Oncology 21, 2019).",
    "registration": "Recalage",
    "registration_told": "En damier : des carrés de {first} et de {second} en alternance. Les "
    "bords du cerveau et des ventricules doivent se prolonger.",
    "chequer_alt": "damier des deux examens, coupe {plane}",
    "registration_kind": "type",
    "rigid": "rigide : translation et rotation",
    "affine": "affine : translation, rotation, échelle et cisaillement",
    "unregistered": "aucun : les en-têtes des fichiers font foi",
    "moved": "déplacement",
    "turned": "rotation",
    "overlap": "recouvrement des cerveaux (Dice)",
    "agreement": "bords parallèles (au hasard 0,33)",
    "similarity": "information mutuelle (nats)",
    "inconsistency": "aller contre retour",
    "half_way": "grille à mi-chemin",
    "criteria_told": "Lésions T2 comptées par un logiciel ; un diagnostic ou un changement de "
    "traitement relève d’un radiologue et d’un neurologue. Les parties cliniques des scores, "
    "poussées et handicap, et les lésions rehaussées ne sont pas examinées. Les scores de Rio "
    "portent sur la première année d’un traitement par interféron.",
    "active": "lésions actives (nouvelles ou agrandies)",
    "rio": "score de Rio, partie IRM : plus de 2 lésions actives",
    "modified_rio": "score de Rio modifié, partie IRM : plus de 4 nouvelles lésions T2",
    "dit": "dissémination temporelle (McDonald 2017) : une nouvelle lésion T2 par rapport à un "
    "examen de référence",
    "neda": "aucune lésion nouvelle ni agrandie (partie IRM de NEDA-3)",
    "reached": "rempli",
    "met": "oui",
    "not_met": "non",
    "sources": "J. Río et al., Multiple Sclerosis 15, 2009 (score de Rio) ; M. P. Sormani et al., "
    "Multiple Sclerosis 19, 2013 (score de Rio modifié) ; A. J. Thompson et al., Lancet Neurology "
    "17, 2018 (McDonald 2017) ; G. Giovannoni et al., Multiple Sclerosis and Related Disorders 4, "
    "2015 (NEDA).",
    "check": "Ce que ces examens permettent de trouver",
    "check_told": "{n} lésion de taille connue a été placée dans {visit}, puis le suivi a été "
    "refait. Formes : {shapes}.|{n} lésions de taille connue ont été placées dans {visit}, puis le "
    "suivi a été refait. Formes : {shapes}.",
    "check_images": "Aucun réseau n’en a tracé les contours : on compte ce que montrent les "
    "images, non ce qu’un lecteur aurait tracé.",
    "check_found": "{size} aurait été trouvée dans {share} des cas ({low} à {high}).",
    "found_between": "Une nouvelle lésion de {low} à {high} mm",
    "found_below": "Une nouvelle lésion de moins de {high} mm",
    "found_above": "Une nouvelle lésion de {low} mm ou plus",
    "check_none": "Aucune lésion n’a été placée.",
    "check_false": "Faux changements : {mean} par comparaison (sur {n} répétition).|"
    "Faux changements : {mean} par comparaison (sur {n} répétitions).",
    "check_copies": "Copies d’un examen comparées à l’examen lui-même, déplacées, tournées et "
    "rééchantillonnées : des changements dans {changed} sur {count}.",
    "check_size": "diamètre",
    "check_put": "placées",
    "check_hit": "trouvées",
    "check_share": "part (95 %)",
    "check_all": "toutes",
    "sizes_between": "{low} à {high} mm",
    "sizes_below": "moins de {high} mm",
    "sizes_above": "{low} mm et plus",
    "seed": "graine",
    "shapes": "formes",
    "warn_unreliable": "Les intensités de {first} et de {second} ne sont pas comparables : "
    "{reason}",
    "warn_not_compared": "Les intensités de {first} et de {second} n’ont pas été comparées.",
    "outlines_alone": "Les changements reposent sur les contours seuls.",
    "warn_unregistered": "Les examens n’ont pas été recalés : les positions indiquées par les "
    "en-têtes des fichiers font foi.",
    "warn_overlap": "Les cerveaux de {first} et de {second} ne se recouvrent qu’à {overlap} : "
    "vérifiez qu’ils se superposent.",
    "warn_inconsistent": "Recalés à l’aller et au retour, {first} et {second} diffèrent de {mm} : "
    "les petits changements ne sont pas certains.",
    "warn_slices": "Les coupes sont distantes de {spacing} : les changements de lésions plus "
    "petites ne sont pas certains.",
    "warn_dates": "Les dates ne sont pas connues : aucun taux de croissance n’est indiqué.",
    "warn_unsure": "{n} changement est incertain (confiance inférieure à {least}) : {numbers}.|"
    "{n} changements sont incertains (confiance inférieure à {least}) : {numbers}.",
    "warn_disagree": "{n} lésion est dite stable bien que ses contours aient changé ({change} en "
    "tout), car les images ne le montrent pas : {numbers}.|{n} lésions sont dites stables bien que "
    "leurs contours aient changé ({change} en tout), car les images ne le montrent pas : "
    "{numbers}.",
    "warn_drift": "Les contours de {n} lésions dites stables ont changé de {change} en tout : "
    "chacun dans sa tolérance, mais dans le même sens. Ont-ils été tracés de la même façon ?",
    "warn_images": "{n} changement est vu dans les images et non dans les contours : {numbers}.|"
    "{n} changements sont vus dans les images et non dans les contours : {numbers}.",
    "warn_images_alone": "Aucun contour n’a été fourni : un endroit devenu plus clair est dit "
    "nouveau, un endroit devenu plus sombre disparu, même si une lésion s’y trouvait déjà ou s’y "
    "trouve encore. Les changements petits ou peu contrastés échappent.",
    "warn_copies": "Le contrôle a trouvé des changements dans {changed} copies sur {count} d’un "
    "même examen, où il n’y en a aucun : certains des changements indiqués ici peuvent être faux.",
    "define_kinds": "Une lésion est nouvelle quand rien de l’examen précédent ne se trouve à sa "
    "place, disparue dans le cas inverse ; agrandie ou réduite quand son volume a changé de plus "
    "que sa tolérance, c’est-à-dire ce qui peut séparer deux examens d’une même lésion sur ces "
    "grilles ; sinon elle est stable. Un changement vu dans les images seules, là où il "
    "n’y a pas de contour, est dit nouveau s’il est plus clair qu’avant, disparu s’il est plus "
    "sombre.",
    "define_change_diameters": "Diamètres : le plus grand dans une coupe axiale, puis sa plus "
    "grande perpendiculaire dans cette coupe.",
    "define_change_volume": "Les volumes sont ceux de l’intérieur des contours, les parts de "
    "voxels au bord comptées. Les charges sont mesurées sur la grille propre de chaque examen.",
    "define_confidence": "Confiance : de 0 à 1, à quel point l’évolution est sûre d’après le "
    "changement de volume, les probabilités des deux examens et les images, s’il y en a. Ce n’est "
    "pas la probabilité d’une maladie.",
    "define_number": "Numéro : 1 est le plus grand changement entre deux examens. Des lésions qui "
    "se rejoignent ou se séparent comptent pour une ; une partie de lésion qui a changé seule est "
    "indiquée à part.",
}  # fmt: skip

_REASONS = {  # why intensities cannot be compared
    r"the structure of the images correlates by (.+), too little for one sequence: are they of "
    r"different contrast, or not registered\?": (
        r"la structure des images n’est corrélée qu’à \1, trop peu pour une même séquence : "
        r"sont-elles de contraste différent, ou mal recalées ?"
    ),
    r"only changes of over (.+) interquartile ranges of the brain would stand out, more than "
    r"lesions have: the images are too noisy or differ too much in contrast": (
        r"seuls des changements de plus de \1 écarts interquartiles du cerveau ressortiraient, "
        r"plus que n’en ont les lésions : les images sont trop bruitées ou de contrastes trop "
        r"différents"
    ),
    r"(.+)% of the brain would have changed: the images are not comparable": (
        "\\1\N{NO-BREAK SPACE}% du cerveau aurait changé : les images ne sont pas comparables"
    ),
}

_NAMES = {
    "drawn ellipsoids": "ellipsoïdes tirés au sort",
    "progression": "progression",
    "minor response": "réponse mineure",
    "partial response": "réponse partielle",
    "complete response": "réponse complète",
    "stable": "stable",
}

_TEXTS = {"en": _ENGLISH, "fr": {name: typeset(text) for name, text in _FRENCH.items()}}


def followup_language(code: str) -> Language:
    """Return a language with the words of a follow-up.

    Args:
        code: ``"en"`` or ``"fr"``.

    Raises:
        InputError: No page is written in it.

    Example:
        >>> followup_language("fr").many("in_days", 203)
        'en 203 jours'
    """
    language = language_of(code)
    texts = {**language.texts, **_TEXTS[language.code]}
    if language.code == "en":
        return replace(language, texts=texts)
    reasons = {pattern: typeset(text) for pattern, text in _REASONS.items()}
    names, foreign = {**language.names, **_NAMES}, {**language.foreign, **reasons}
    return replace(language, texts=texts, names=names, foreign=foreign)
