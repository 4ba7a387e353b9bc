const en = {
  niftiTruncated: "{name}: the file ends after {bytes} bytes of {expected}; copy it again.",
  niftiImpossible:
    "{name}: its header claims {expected} bytes, which a file of {bytes} bytes cannot hold; copy or convert it again.",
  niftiTooLarge:
    "{name}: its voxels take {expected} bytes, more than a browser can hold; crop it, or resample it to larger voxels.",
  niftiDamaged: "{name}: its compressed data are damaged; copy it again.",
  niftiHeader: "{name}: its header is damaged ({field}); convert it again.",
  niftiOtherFormat:
    "{name}: this is a file of type {format}, not a NIfTI; convert it to .nii or .nii.gz.",
  niftiPair:
    "{name}: its header and its voxels are two files (.hdr and .img); convert them to one .nii or .nii.gz.",
  niftiUnknown:
    "{name}: this is not a NIfTI file; drop a .nii or .nii.gz, a DICOM folder, or a segjax .onnx file.",
  niftiDatatype:
    "{name}: its voxels are colours, complex numbers or of another type that this page does not read (datatype {datatype}); convert it to integers or floats.",
  niftiAxes:
    "{name}: it has axes of {shape} voxels; give three axes of space and at most one of channels.",
  niftiNotFinite: "{name}: {count} of its voxels are not numbers or infinite; replace them.",
  niftiAffine:
    "{name}: its header does not say where the voxels lie (its affine is flat or not finite); set it from the original image.",
  niftiLongAxis: "The mask has an axis of {voxels} voxels; a NIfTI-1 file takes up to 32767.",
  allChannelsMissing: "All channels are missing; give at least one image.",
  stepsUnsupported:
    "These steps of the network's preprocessing cannot run in a browser: {steps}. Use segjax predict on your computer.",
  stepField:
    "The network's preprocessing step {step} has a field that this page does not know: {field}. Use a newer version of this page.",
  stepValue:
    "The network's preprocessing step {step} cannot be used with {field} = {value}. Export the network again.",
  stepTooManyVoxels:
    "Voxels of {spacing} mm, as the network takes them, would be {shape} of this image, more than a browser can hold; check the voxel size in the image's header.",
  stepNothingToCrop:
    "Every voxel of the image is 0: there is nothing to crop to. Give another image.",
  stepNoBrain: "Every voxel of the image is 0: no brain was found. Give another image.",
  stepNoVoxels: "No voxel of the image counts for the step {step}. Give another image.",
  stepFlatImage:
    "The voxels of the image have all the same value, so that the step {step} has no histogram. Give another image.",
  doubtSpacing:
    "The voxels of {given} mm are far from the {trained} mm of the training: the mask may be wrong.",
  doubtSpacings:
    "The voxels of {given} mm are far from those of the training, {low} to {high} mm: the mask may be wrong.",
  doubtIntensities:
    "The intensities after preprocessing, {low} to {high}, are far from those of the training, {lowest} to {highest}: the mask may be wrong.",
  doubtIntensitiesOf:
    "The intensities of channel {channel} after preprocessing, {low} to {high}, are far from those of the training, {lowest} to {highest}: the mask may be wrong.",
  doubtUnknownSpacing:
    "The network's file does not tell the voxel size of its training: see to it yourself that voxels have the size of those that it was trained on.",
  doubtTilted:
    "The slices are tilted, {degrees}° from right angles, so that shapes are sheared to the network: the mask may be wrong.",
};

const fr: Record<keyof typeof en, string> = {
  niftiTruncated:
    "{name} : le fichier s’arrête après {bytes} octets sur {expected} ; copiez-le à nouveau.",
  niftiImpossible:
    "{name} : son en-tête annonce {expected} octets, ce qu’un fichier de {bytes} octets ne peut contenir ; copiez-le ou convertissez-le à nouveau.",
  niftiTooLarge:
    "{name} : ses voxels occupent {expected} octets, plus qu’un navigateur ne peut en contenir ; recadrez l’image ou rééchantillonnez-la avec des voxels plus grands.",
  niftiDamaged: "{name} : ses données compressées sont endommagées ; copiez-le à nouveau.",
  niftiHeader: "{name} : son en-tête est endommagé ({field}) ; convertissez-le à nouveau.",
  niftiOtherFormat:
    "{name} : c’est un fichier de type {format}, et non un NIfTI ; convertissez-le en .nii ou .nii.gz.",
  niftiPair:
    "{name} : son en-tête et ses voxels sont dans deux fichiers (.hdr et .img) ; convertissez-les en un seul .nii ou .nii.gz.",
  niftiUnknown:
    "{name} : ce n’est pas un fichier NIfTI ; déposez un fichier .nii ou .nii.gz, un dossier DICOM ou un fichier .onnx de segjax.",
  niftiDatatype:
    "{name} : ses voxels sont des couleurs, des nombres complexes ou d’un autre type que cette page ne lit pas (datatype {datatype}) ; convertissez-les en entiers ou en nombres à virgule.",
  niftiAxes:
    "{name} : ses axes comptent {shape} voxels ; donnez trois axes d’espace et au plus un axe de canaux.",
  niftiNotFinite:
    "{name} : {count} de ses voxels ne sont pas des nombres ou sont infinis ; remplacez-les.",
  niftiAffine:
    "{name} : son en-tête ne dit pas où se trouvent les voxels (sa matrice affine est plate ou non finie) ; reprenez-la de l’image d’origine.",
  niftiLongAxis:
    "Le masque a un axe de {voxels} voxels ; un fichier NIfTI-1 en admet au plus 32767.",
  allChannelsMissing: "Tous les canaux manquent ; donnez au moins une image.",
  stepsUnsupported:
    "Ces étapes du prétraitement du réseau ne peuvent pas s’exécuter dans un navigateur : {steps}. Utilisez segjax predict sur votre ordinateur.",
  stepField:
    "L’étape de prétraitement {step} du réseau a un champ que cette page ne connaît pas : {field}. Utilisez une version plus récente de cette page.",
  stepValue:
    "L’étape de prétraitement {step} du réseau est inutilisable avec {field} = {value}. Exportez le réseau à nouveau.",
  stepTooManyVoxels:
    "Avec des voxels de {spacing} mm, tels que le réseau les prend, cette image en aurait {shape}, plus qu’un navigateur ne peut en contenir ; vérifiez la taille des voxels dans l’en-tête de l’image.",
  stepNothingToCrop:
    "Tous les voxels de l’image valent 0 : il n’y a rien sur quoi recadrer. Donnez une autre image.",
  stepNoBrain:
    "Tous les voxels de l’image valent 0 : aucun cerveau n’a été trouvé. Donnez une autre image.",
  stepNoVoxels: "Aucun voxel de l’image ne compte pour l’étape {step}. Donnez une autre image.",
  stepFlatImage:
    "Les voxels de l’image ont tous la même valeur, si bien que l’étape {step} n’a pas d’histogramme. Donnez une autre image.",
  doubtSpacing:
    "Les voxels de {given} mm sont loin des {trained} mm de l’entraînement : le masque est peut-être faux.",
  doubtSpacings:
    "Les voxels de {given} mm sont loin de ceux de l’entraînement, de {low} à {high} mm : le masque est peut-être faux.",
  doubtIntensities:
    "Les intensités après prétraitement, de {low} à {high}, sont loin de celles de l’entraînement, de {lowest} à {highest} : le masque est peut-être faux.",
  doubtIntensitiesOf:
    "Les intensités du canal {channel} après prétraitement, de {low} à {high}, sont loin de celles de l’entraînement, de {lowest} à {highest} : le masque est peut-être faux.",
  doubtUnknownSpacing:
    "Le fichier du réseau n’indique pas la taille des voxels de son entraînement : vérifiez vous-même que les voxels ont la taille de ceux sur lesquels il a été entraîné.",
  doubtTilted:
    "Les coupes sont inclinées, à {degrees}° de l’angle droit, si bien que le réseau voit des formes cisaillées : le masque est peut-être faux.",
};

export const image = { en, fr };
