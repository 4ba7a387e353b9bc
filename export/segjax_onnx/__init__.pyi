from .adopt.foreign import Usage as Usage, export_weights as export_weights
from .predict.metadata import (
    About as About,
    Code as Code,
    HalfPrecision as HalfPrecision,
    ModelMetadata as ModelMetadata,
    Structure as Structure,
    Window as Window,
    read_metadata as read_metadata,
    write_sidecar as write_sidecar,
)
from .predict.postprocess import LabelRule as LabelRule
from .predict.predictor import Predictor as Predictor
from .write.bioimage import write_bioimage as write_bioimage
from .write.card import Card as Card, read_card as read_card
from .write.convert import export_onnx as export_onnx, to_onnx as to_onnx
from .write.merge import export_ensemble as export_ensemble
from .write.weights import read_variables as read_variables
