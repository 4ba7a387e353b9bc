"""A transform that draws no parameters."""


class Doubling:
    """Draw no parameters, and double the image."""

    name = "doubling"
    probability = 1.0

    def draw(self, rng, shape):
        return {}

    def identity(self, shape):
        return {}

    def apply(self, image, parameters, xp):
        return 2 * image

    def apply_label(self, label, parameters, xp):
        return label
