"""PyTorch state dicts → Flax variables, so that parity with the references is provable."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segjax.errors import InputError
from segjax.models import zoo
from segjax.models.unet import UNet
from segjax.models.unet_plus_plus import UNetPlusPlus
from segjax.text import listed

Place = tuple[str, ...]  # collection, layers …, leaf

_UNET_ENDS = ("model.0.conv.weight", "model.2.conv.bias")  # the first and the last layer
_UNET_PLUS_PLUS_ENDS = ("conv000.weight", "conv_seg0.bias")
_SHOWN = 5  # names that a message lists


def from_torch(model: Any, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a PyTorch state dict into variables of our network.

    `UNet` takes the names of `monai.networks.nets.UNet` (num_res_units=0), `UNetPlusPlus`
    those of the MPU-Net++ authors' release (`conv000 …, bn000 …, conv_seg0 …`, in the PyPI
    package pydactim). A prefix of all these names is dropped, such as "module." of DataParallel;
    what lies outside of it belongs to something else.

    Args:
        model: A network, or the name of one; by name, the numbers of input and output
            channels are read off the weights.
        state_dict: Name → tensor or array.

    Returns:
        Variables with float32 NumPy arrays.

    Raises:
        ValueError: If names or shapes do not match; it names them.

    Example:
        >>> import torch  # needs PyTorch  # doctest: +SKIP
        >>> state = torch.load("weights.pth")  # needs PyTorch  # doctest: +SKIP
        >>> variables = from_torch("unet2d-k5", state)  # needs PyTorch  # doctest: +SKIP
    """
    state = _of_network(state_dict)
    network = _sized(model, state) if isinstance(model, str) else model
    places = dict(_places(network))
    _check_names(state, places)
    shapes = _shapes(network)
    variables: dict[str, Any] = {}
    for name, (place, transposed) in places.items():
        _put(variables, place, _converted(name, state[name], place, transposed, shapes[place]))
    return variables


def recognize(state_dict: Mapping[str, Any]) -> tuple[str, Any]:
    """Tell which network a PyTorch state dict belongs to, by its names and shapes.

    Rank, kernel size, levels and channels are read off the weights. Strides cannot be: those of a
    U-Net are taken to be 2, as in all of the zoo.

    Args:
        state_dict: As for `from_torch`.

    Returns:
        The name of the network in the zoo, or "monai-unet" for a U-Net of other levels; and the
        network.

    Raises:
        ValueError: If it is none of these networks; the first names are named.

    Example:
        >>> import torch  # needs PyTorch  # doctest: +SKIP
        >>> recognize(torch.load("weights.pth"))[0]  # needs PyTorch  # doctest: +SKIP
        'unet2d-k5'
    """
    state = _of_network(state_dict)
    if _UNET_ENDS[0] in state and _UNET_ENDS[1] in state:
        network: Any = _unet_of(state)
    elif all(end in state for end in _UNET_PLUS_PLUS_ENDS):
        network = zoo.create("mpunet++", **_channels(state, _UNET_PLUS_PLUS_ENDS))
    else:
        raise ValueError(
            f"the weights of another network ({listed(list(state_dict), _SHOWN)}): known are those "
            "of MONAI's UNet with num_res_units=0 and of the MPU-Net++ authors' release"
        )
    _check_names(state, dict(_places(network)))
    return _name_of(network), network


def _unet_of(state: Mapping[str, np.ndarray]) -> UNet:
    """Read the levels of a U-Net: down to the bottom, which is no nested module's first part."""
    prefix, levels = "model.", []
    while f"{prefix}0.conv.weight" in state:
        levels.append(state[f"{prefix}0.conv.weight"])
        prefix += "1.submodule."
    bottom = state.get(f"{prefix}conv.weight")
    if bottom is None:
        raise ValueError(f"the weights of a U-Net without its bottom: {prefix}conv.weight")
    return UNet(
        **_channels(state, _UNET_ENDS),
        channels=tuple(len(weight) for weight in (*levels, bottom)),
        strides=(2,) * len(levels),
        kernel_size=bottom.shape[2],
        spatial_dims=bottom.ndim - 2,
    )


def _name_of(network: Any) -> str:
    def trained(model: Any) -> Any:
        return model.clone(dropout=0.0, parent=None)

    channels = {"in_channels": network.in_channels, "out_channels": network.out_channels}
    for name in zoo.names():
        named = zoo.create(name, **channels)
        if type(named) is type(network) and trained(named) == trained(network):
            return name
    return "monai-unet"


def _of_network(state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the weights of the network alone, without the prefix of all their names."""
    firsts = (_UNET_ENDS[0], _UNET_PLUS_PLUS_ENDS[0])
    before = (n.removesuffix(first) for first in firsts for n in state_dict if n.endswith(first))
    prefix = next((some for some in before if not some or some.endswith(".")), "")
    return {
        name.removeprefix(prefix): np.asarray(value, np.float32)
        for name, value in state_dict.items()
        if name.startswith(prefix) and not name.endswith("num_batches_tracked")
    }


def _channels(state: Mapping[str, np.ndarray], ends: tuple[str, str]) -> dict[str, Any]:
    return {"in_channels": state[ends[0]].shape[1], "out_channels": state[ends[1]].shape[0]}


def _sized(name: str, state: Mapping[str, np.ndarray]) -> Any:
    """Create the named network with the channels that the weights have."""
    network = zoo.create(name)
    if not isinstance(network, UNet | UNetPlusPlus):
        raise InputError(f"weights of PyTorch are read for a U-Net or U-Net++, not for {name}")
    ends = _UNET_ENDS if isinstance(network, UNet) else _UNET_PLUS_PLUS_ENDS
    missing = [end for end in ends if end not in state]
    if missing:
        raise ValueError(f"these are no weights of {name}: {', '.join(missing)} not found")
    return zoo.create(name, **_channels(state, ends))


def _shapes(network: Any) -> dict[Place, tuple[int, ...]]:
    images = (2 * network.size_multiple,) * network.spatial_dims
    example = jax.ShapeDtypeStruct((1, *images, network.in_channels), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), example)
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {tuple(key.key for key in path): leaf.shape for path, leaf in flat}


def _places(network: Any) -> Iterator[tuple[str, tuple[Place, bool]]]:
    """Yield each PyTorch name with its place in our variables and whether it is transposed."""
    return _unet_places(network) if isinstance(network, UNet) else _unet_plus_plus_places(network)


def _unet_places(network: UNet) -> Iterator[tuple[str, tuple[Place, bool]]]:
    prefix = "model."
    for level in range(len(network.strides)):
        yield from _layer(f"{prefix}0.", ("params", f"down{level}"), slope=True)
        yield from _layer(f"{prefix}2.", ("params", f"up{level}"), slope=level > 0, transposed=True)
        prefix += "1.submodule."
    yield from _layer(prefix, ("params", "bottom"), slope=True)


def _layer(
    prefix: str, place: Place, *, slope: bool, transposed: bool = False
) -> Iterator[tuple[str, tuple[Place, bool]]]:
    yield f"{prefix}conv.weight", ((*place, "kernel"), transposed)
    yield f"{prefix}conv.bias", ((*place, "bias"), False)
    if slope:
        yield f"{prefix}adn.A.weight", ((*place, "slope"), False)


def _unet_plus_plus_places(network: Any) -> Iterator[tuple[str, tuple[Place, bool]]]:
    levels = len(network.features)
    for level in range(levels):
        for column in range(levels - level):
            for second, layer in enumerate(("first", "second")):
                number = f"{level}{2 * column + second:02d}"
                place = (f"X{level}{column}", layer)
                yield f"conv{number}.weight", (("params", *place, "kernel"), False)
                yield f"conv{number}.bias", (("params", *place, "bias"), False)
                if (level, column, second) != (0, levels - 1, 1):
                    yield from _batch_norm(f"bn{number}.", place)
    for column in range(1, levels - 1):
        for torch_leaf, leaf in (("weight", "kernel"), ("bias", "bias")):
            name = f"conv_seg{column - 1}.{torch_leaf}"
            yield name, (("params", f"head{column}", leaf), False)


def _batch_norm(prefix: str, place: Place) -> Iterator[tuple[str, tuple[Place, bool]]]:
    yield f"{prefix}weight", (("params", *place, "scale"), False)
    yield f"{prefix}bias", (("params", *place, "shift"), False)
    yield f"{prefix}running_mean", (("batch_stats", *place, "mean"), False)
    yield f"{prefix}running_var", (("batch_stats", *place, "variance"), False)


def _check_names(state: Mapping[str, Any], places: Mapping[str, Any]) -> None:
    missing = [name for name in places if name not in state]
    unknown = [name for name in state if name not in places]
    if missing or unknown:
        raise ValueError(
            "the state dict does not match the network: "
            f"missing {listed(missing, _SHOWN) or 'nothing'}; "
            f"not in the network {listed(unknown, _SHOWN) or 'nothing'}"
        )


def _converted(
    name: str, value: np.ndarray, place: Place, transposed: bool, shape: tuple[int, ...]
) -> np.ndarray:
    """Move (out, in, *size), or (in, out, *size) if transposed, to (*size, in, out)."""
    if place[-1] == "kernel":
        value = np.moveaxis(value, (0, 1), (-2, -1) if transposed else (-1, -2))
    elif place[-1] == "slope" and value.size == 1:
        value = value.reshape(())
    if value.shape != shape:
        raise ValueError(f"{name} has shape {value.shape}, the network's {'/'.join(place)} {shape}")
    return np.array(value, order="C")


def _put(variables: dict[str, Any], place: Place, value: np.ndarray) -> None:
    for key in place[:-1]:
        variables = variables.setdefault(key, {})
    variables[place[-1]] = value
