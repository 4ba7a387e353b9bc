from .adopt.foreign import Usage as Usage, export_weights as export_weights
from .predict.metadata import ModelMetadata as ModelMetadata, read_metadata as read_metadata
from .predict.predictor import Predictor as Predictor
from .write.convert import export_onnx as export_onnx, to_onnx as to_onnx
from .write.merge import export_ensemble as export_ensemble
from .write.weights import read_variables as read_variables
