const en = {
  dicomNone: "{name}: is not a DICOM file; fetch it again, or leave it out",
  dicomEmpty: "{name}: is empty; fetch it again, or leave it out",
  dicomTooLarge: "{name}: is larger than 2 GB, which a browser cannot hold; convert it with segjax",
  dicomUnreadable: "{name}: cannot be read; it may have been moved or changed. Drop it again",
  dicomEncrypted: "{name}: is encrypted; export it from the PACS without encryption",
  dicomDeflated: "{name}: is deflated as a whole; convert it with dcmconv first",
  dicomCorrupt: "{name}: its DICOM header is corrupt at byte {offset}; fetch it again",
  dicomHeaderCut: "{name}: ends within its DICOM header; fetch it again",
  dicomCut:
    "{name}: is truncated: its pixels take {expected} bytes, but {found} are there; fetch it again",
  dicomNoImage: "{name}: holds no image of a volume ({kind}); it was left out",
  dicomColour: "{name}: is in colour, or of one bit per pixel, and no slice; it was left out",
  dicomLookUpTable: "{name}: its values go through a look-up table, which is not read",
  dicomBits: "{name}: pixels of {stored} bits in {allocated} cannot be read",
  dicomNumbers: "{name}: its {attribute} cannot be right: {value}",
  dicomCoding:
    "{name}: its pixels are coded in {coding}, which is not read here; convert it with dcmconv or gdcmconv first",
  dicomMosaic:
    "{name}: is a mosaic of slices, which is not read here; convert it with dcm2niix, and drop the NIfTI file",
  dicomNoPlace:
    "{name}: does not say where it lies (position, orientation or pixel spacing); fetch it again, or leave it out",
  dicomTwice:
    "{name}: two slices lie at {place} mm along the normal: {first} and {second}; remove one",
  dicomGap:
    "{name}: slices are missing ({count}) between {from} and {to} mm along the normal, between {first} and {second}; fetch the whole series",
  dicomSparse:
    "{name}: slices are missing: they lie {apart} mm apart, but their headers state {stated} mm; fetch the whole series",
  dicomUneven:
    "{name}: slices are spaced unevenly: {slice} lies {off} mm from where steps of {step} mm lead; fetch the whole series",
  dicomPart:
    "{name}: was not read, for a part of it may be missing: {file} cannot be used. Fetch that file again, or move it away",
  dicomManyVolumes:
    "{name}: {file} holds several volumes in one; convert it with dcm2niix, and drop the NIfTI file of one",
  dicomLocaliser: "{name}: only serves to plan other images (localiser); it was left out",
  dicomVolumes:
    "{name}: dcm2niix makes {count} volumes of these files, not one; convert them with segjax, and drop the NIfTI file",
  dicomShape:
    "{name}: dcm2niix makes a volume of {made} voxels of these files, not of {stated}; convert them with segjax, and drop the NIfTI file",
  dicomElsewhere:
    "{name}: dcm2niix places this volume {off} mm from where its headers state; convert it with segjax, and drop the NIfTI file",
  dicomHangs:
    "{name}: dcm2niix did not end within {seconds} seconds and was stopped; its files may be corrupt. Fetch them again",
  dicomFails:
    "{name}: dcm2niix cannot convert this series; its files may be corrupt. Fetch them again",
  segmentationGrid: "{name}: the mask does not lie on the slices of this series; segment it again",
  segmentationUid:
    "{name}: states no {attribute}, by which a DICOM segmentation refers to it; save the mask as NIfTI instead",
  segmentationSource: "{name}: did not come from DICOM; save the mask as NIfTI instead",
};

const fr: Record<keyof typeof en, string> = {
  dicomNone: "{name} : n’est pas un fichier DICOM ; récupérez-le de nouveau ou laissez-le de côté",
  dicomEmpty: "{name} : est vide ; récupérez-le de nouveau ou laissez-le de côté",
  dicomTooLarge: "{name} : dépasse 2 Go, trop pour un navigateur ; convertissez-le avec segjax",
  dicomUnreadable:
    "{name} : est illisible ; il a peut-être été déplacé ou modifié. Déposez-le de nouveau",
  dicomEncrypted: "{name} : est chiffré ; exportez-le du PACS sans chiffrement",
  dicomDeflated: "{name} : est entièrement compressé ; convertissez-le d’abord avec dcmconv",
  dicomCorrupt:
    "{name} : son en-tête DICOM est corrompu à l’octet {offset} ; récupérez-le de nouveau",
  dicomHeaderCut: "{name} : s’arrête dans son en-tête DICOM ; récupérez-le de nouveau",
  dicomCut:
    "{name} : est tronqué : ses pixels occupent {expected} octets, mais il n’y en a que {found} ; récupérez-le de nouveau",
  dicomNoImage: "{name} : ne contient pas d’image d’un volume ({kind}) ; il a été laissé de côté",
  dicomColour:
    "{name} : est en couleurs, ou d’un bit par pixel, et n’est pas une coupe ; il a été laissé de côté",
  dicomLookUpTable:
    "{name} : ses valeurs passent par une table de correspondance, qui n’est pas lue",
  dicomBits: "{name} : des pixels de {stored} bits sur {allocated} ne peuvent pas être lus",
  dicomNumbers: "{name} : son attribut {attribute} ne peut pas être juste : {value}",
  dicomCoding:
    "{name} : ses pixels sont codés en {coding}, que cette page ne lit pas ; convertissez-le d’abord avec dcmconv ou gdcmconv",
  dicomMosaic:
    "{name} : est une mosaïque de coupes, que cette page ne lit pas ; convertissez-la avec dcm2niix et déposez le fichier NIfTI",
  dicomNoPlace:
    "{name} : n’indique pas où il se trouve (position, orientation ou taille des pixels) ; récupérez-le de nouveau ou laissez-le de côté",
  dicomTwice:
    "{name} : deux coupes se trouvent à {place} mm le long de la normale : {first} et {second} ; retirez-en une",
  dicomGap:
    "{name} : des coupes manquent ({count}) entre {from} et {to} mm le long de la normale, entre {first} et {second} ; récupérez toute la série",
  dicomSparse:
    "{name} : des coupes manquent : elles sont espacées de {apart} mm, mais leurs en-têtes indiquent {stated} mm ; récupérez toute la série",
  dicomUneven:
    "{name} : les coupes sont irrégulièrement espacées : {slice} se trouve à {off} mm de l’endroit où mènent des pas de {step} mm ; récupérez toute la série",
  dicomPart:
    "{name} : n’a pas été lue, car il peut en manquer une partie : {file} est inutilisable. Récupérez ce fichier de nouveau ou retirez-le",
  dicomManyVolumes:
    "{name} : {file} contient plusieurs volumes à la fois ; convertissez-le avec dcm2niix et déposez le fichier NIfTI de l’un d’eux",
  dicomLocaliser:
    "{name} : ne sert qu’à planifier d’autres images (repérage) ; elle a été laissée de côté",
  dicomVolumes:
    "{name} : dcm2niix fait {count} volumes de ces fichiers, et non un seul ; convertissez-les avec segjax et déposez le fichier NIfTI",
  dicomShape:
    "{name} : dcm2niix fait de ces fichiers un volume de {made} voxels, et non de {stated} ; convertissez-les avec segjax et déposez le fichier NIfTI",
  dicomElsewhere:
    "{name} : dcm2niix place ce volume à {off} mm de l’endroit que ses en-têtes indiquent ; convertissez-le avec segjax et déposez le fichier NIfTI",
  dicomHangs:
    "{name} : dcm2niix n’a pas terminé en {seconds} secondes et a été arrêté ; ses fichiers sont peut-être corrompus. Récupérez-les de nouveau",
  dicomFails:
    "{name} : dcm2niix ne peut pas convertir cette série ; ses fichiers sont peut-être corrompus. Récupérez-les de nouveau",
  segmentationGrid:
    "{name} : le masque n’est pas sur les coupes de cette série ; segmentez-la de nouveau",
  segmentationUid:
    "{name} : n’indique pas son {attribute}, par lequel une segmentation DICOM y fait référence ; enregistrez plutôt le masque en NIfTI",
  segmentationSource: "{name} : ne vient pas de DICOM ; enregistrez plutôt le masque en NIfTI",
};

export const dicom = { en, fr };
