const en = {
  modelForeign: "{name}: not an ONNX file; drop a network that segjax export wrote.",
  modelCut: "{name}: the file ends too early, after {bytes} bytes; copy it again from its source.",
  modelDamaged: "{name}: the file is damaged; copy it again from its source, or export it again.",
  modelChanged:
    "{name}: not what was exported, some of its bytes were changed; copy it again from its source, or export it again.",
  modelOutside:
    "{name}: keeps its weights in other files, which this page does not read; save it whole, as onnx.save does by default.",
  modelOfOthers:
    "{name}: an ONNX file without the description that segjax writes (its producer: {producer}); segjax export makes a file of it that this page can run.",
  modelNewer:
    "{name}: its description is of version {version}, and this page reads up to {known}; take a newer page, or export it with the segjax of this one.",
  modelField:
    "{name}: the field {field} of its description holds {found}, which the format does not allow; export it again.",
  modelGraph: "{name}: its graph lacks {array}; export it again.",
  modelShape: "{name}: its graph gives arrays of {found} where {wanted} are due; export it again.",
  modelUnusable: "{name}: the network cannot be run here ({reason}); export it again.",
  modelFailed: "{name}: the network failed on this image ({reason}).",
  insideSlices:
    "{name}: does its preprocessing itself and takes single pictures, no volumes; export it again without --with-preprocessing.",
  channelsWrong: "{image}: {found} images for a network of {wanted} channels ({name}).",
  channelRequired: "{image}: {name} needs an image for the channel “{channel}”.",
  gridsDiffer:
    "{image}: the images lie on different grids; bring them to one grid first, as segjax register does.",
  memoryShort:
    "{image}: too little memory for {name}, which takes about {needed} GB here, of {have} GB; close other tabs, or use segjax predict.",
  memoryGone:
    "{image}: the browser ran out of memory with {name}; close other tabs and try again, or use segjax predict.",
  workerFailed:
    "The part of the page that runs networks could not start or stopped ({reason}); reload the page.",
  webgpuNone: "The graphics processor cannot be used here: computed on the main processor.",
  webgpuOperators:
    "The graphics processor cannot do all operations of {name}: computed on the main processor.",
  webgpuDiffers:
    "The graphics processor gave other numbers than the main one ({difference}): computed on the main processor.",
  webgpuFailed: "The graphics processor failed ({reason}): computed on the main processor.",
};

const fr: Record<keyof typeof en, string> = {
  modelForeign: "{name} : pas un fichier ONNX ; déposez un réseau écrit par segjax export.",
  modelCut:
    "{name} : le fichier s’arrête trop tôt, après {bytes} octets ; copiez-le à nouveau depuis sa source.",
  modelDamaged:
    "{name} : le fichier est endommagé ; copiez-le à nouveau depuis sa source, ou exportez-le à nouveau.",
  modelChanged:
    "{name} : ce n’est pas ce qui a été exporté, des octets ont été modifiés ; copiez-le à nouveau depuis sa source, ou exportez-le à nouveau.",
  modelOutside:
    "{name} : garde ses poids dans d’autres fichiers, que cette page ne lit pas ; enregistrez-le en un seul fichier, comme onnx.save le fait par défaut.",
  modelOfOthers:
    "{name} : un fichier ONNX sans la description que segjax écrit (son producteur : {producer}) ; segjax export en fait un fichier que cette page sait exécuter.",
  modelNewer:
    "{name} : sa description est de la version {version}, et cette page lit jusqu’à la version {known}; prenez une page plus récente, ou exportez-le avec la version de segjax de cette page.",
  modelField:
    "{name} : le champ {field} de sa description contient {found}, ce que le format ne permet pas ; exportez-le à nouveau.",
  modelGraph: "{name} : il manque {array} à son graphe ; exportez-le à nouveau.",
  modelShape:
    "{name} : son graphe donne des tableaux de {found} au lieu de {wanted}; exportez-le à nouveau.",
  modelUnusable:
    "{name} : le réseau ne peut pas être exécuté ici ({reason}) ; exportez-le à nouveau.",
  modelFailed: "{name} : le réseau a échoué sur cette image ({reason}).",
  insideSlices:
    "{name} : fait lui-même son prétraitement et prend des images seules, pas de volumes ; exportez-le à nouveau sans --with-preprocessing.",
  channelsWrong: "{image} : {found} images pour un réseau de {wanted} canaux ({name}).",
  channelRequired: "{image} : {name} demande une image pour le canal « {channel} ».",
  gridsDiffer:
    "{image} : les images sont sur des grilles différentes ; amenez-les d’abord sur une même grille, comme le fait segjax register.",
  memoryShort:
    "{image} : trop peu de mémoire pour {name}, qui demande ici environ {needed} Go, sur {have} Go ; fermez d’autres onglets, ou utilisez segjax predict.",
  memoryGone:
    "{image} : le navigateur a manqué de mémoire avec {name}; fermez d’autres onglets et réessayez, ou utilisez segjax predict.",
  workerFailed:
    "La partie de la page qui exécute les réseaux n’a pas pu démarrer ou s’est arrêtée ({reason}) ; rechargez la page.",
  webgpuNone:
    "Le processeur graphique ne peut pas être utilisé ici : calculé sur le processeur principal.",
  webgpuOperators:
    "Le processeur graphique ne sait pas faire toutes les opérations de {name} : calculé sur le processeur principal.",
  webgpuDiffers:
    "Le processeur graphique a donné d’autres nombres que le processeur principal ({difference}) : calculé sur le processeur principal.",
  webgpuFailed:
    "Le processeur graphique a échoué ({reason}) : calculé sur le processeur principal.",
};

export const network = { en, fr };
