"""Many parameters as one: clipping and the optimiser run over one vector, not over each tensor.

A network of this size has some 150 parameters of a few thousand numbers. Updating them one by
one costs a CPU more in calls than in arithmetic.
"""

from collections.abc import Sequence

import torch
from torch import nn

from tft_core.errors import TrainingError


def flattened(parameters: Sequence[nn.Parameter]) -> nn.Parameter:
    """One parameter of which the given ones, and their gradients, become views.

    Gradients then add up in the vector's, which has to be zeroed before each step. Whatever
    holds for every number by itself (AdamW), or for all of them together (a norm), is the
    same on the vector. One thing differs: a parameter that a step does not use has a gradient
    of zero instead of none, so its moments and its decay go on, as they do on a GPU.

    Raises:
        TrainingError: They are of different types.
    """
    dtype = parameters[0].dtype
    for parameter in parameters:
        if parameter.dtype != dtype:
            raise TrainingError(f"parameters must share {dtype}, found {parameter.dtype}")
    vector = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters]))
    vector.grad = torch.zeros_like(vector)
    sizes = [p.numel() for p in parameters]
    pieces = zip(vector.detach().split(sizes), vector.grad.split(sizes), strict=True)
    for parameter, (values, gradient) in zip(parameters, pieces, strict=True):
        parameter.data = values.view(parameter.shape)
        parameter.grad = gradient.view(parameter.shape)
    return vector


@torch.no_grad()
def unflatten(parameters: Sequence[nn.Parameter]) -> None:
    """Give each parameter memory of its own again, and no gradient."""
    for parameter in parameters:
        parameter.grad = None
        parameter.data = parameter.data.clone()
