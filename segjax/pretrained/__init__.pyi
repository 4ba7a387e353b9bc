from .card import (
    MeasuredDice as MeasuredDice,
    ModelCard as ModelCard,
    read_model_card as read_model_card,
)
from .shipped import (
    card_of as card_of,
    model_path as model_path,
    pretrained_model as pretrained_model,
    pretrained_models as pretrained_models,
)
