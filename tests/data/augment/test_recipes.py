"""The recipes of the two studies."""

import numpy as np
import pytest

from segjax.data.augment import augment_patch, from_json, to_json
from segjax.data.augment.recipes import recipe, recipe_names
from segjax.errors import InputError


def test_meningioma_recipe_has_the_probabilities_that_the_study_states():
    chances = {transform.name: transform.probability for transform in recipe("meningioma-2d")}
    assert chances == {
        "affine": 1.0,
        "elastic": 1.0,
        "noise": 0.25,
        "scale-intensity": 0.25,
        "motion": 0.05,
        "bias-field": 0.2,
    }


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("shape", [(40, 33), (17, 24, 20)])
def test_recipes_augment_images_of_two_and_three_axes(name, shape):
    rng = np.random.default_rng(0)
    image = rng.random((*shape, 1), dtype=np.float32)
    label = (image[..., 0] > 0.5).astype(np.uint8)
    for _ in range(5):
        result, mask = augment_patch(rng, image, label, recipe(name))
        assert result.shape == image.shape
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
        assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_go_to_json_and_back(name):
    assert from_json(to_json(recipe(name))) == recipe(name)


def test_unknown_recipes_are_refused():
    with pytest.raises(InputError, match="unknown recipe 'ms': known are meningioma-2d, ms-7t"):
        recipe("ms")
