"""PyTorch's part of `gpu.py`: the same networks, batches, losses and optimizer."""

import functools
import itertools
import shutil
from time import perf_counter

from gpu_rows import PRECISIONS, batch, inference_cases, networks, rates, timed

WAYS = ("compile", "channels-last", "eager", "graphs")  # graphs: compiled, with CUDA graphs


def train(settings):
    for precision, way in itertools.product(PRECISIONS, ways(settings)):
        for name, shape in networks(settings).items():
            row = functools.partial(train_row, name.split()[0], shape, precision, way, settings)
            yield f"{name} {precision} {way}", row


def ways(settings):
    quick = settings["quick"] or not (shutil.which("gcc") or shutil.which("cc"))
    return ("channels-last", "eager") if quick else WAYS


def placed(settings):
    """Return the device, and a function that waits for it."""
    import torch

    if settings["platform"] == "cpu":
        torch.set_num_threads(1)
        return "cpu", lambda _: None
    return "cuda", lambda _: torch.cuda.synchronize()


def set_precision(precision):
    """Choose what products of float32 are rounded to, and let cuDNN try its ways."""
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = precision == "tensorfloat32"
    torch.backends.cudnn.allow_tf32 = precision == "tensorfloat32"


def network(name, shape, way, device):
    """Return a network of a way, and the images and labels of a batch."""
    import torch
    from peers import torch_network

    last = torch.channels_last if len(shape) == 3 else torch.channels_last_3d
    layout = torch.contiguous_format if way == "eager" else last
    images, labels = (torch.from_numpy(array).to(device) for array in batch(shape))
    images = images[:, None].contiguous(memory_format=layout)
    return torch_network(name).to(device, memory_format=layout), images, labels.long()


def compiled(function, way):
    import torch

    if way not in ("compile", "graphs"):
        return function
    torch._dynamo.reset()
    mode = "reduce-overhead" if way == "graphs" else "default"
    return torch.compile(function, mode=mode, dynamic=False)


def train_row(name, shape, precision, way, settings):
    import torch
    from peers import dice_and_cross_entropy

    device, wait = placed(settings)
    set_precision(precision)
    model, images, labels = network(name, shape, way, device)
    half = precision == "bfloat16"
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=device == "cuda")

    def objective(images, labels):
        with torch.autocast(device, torch.bfloat16, enabled=half):
            logits = model(images)
        return dice_and_cross_entropy(logits, labels)

    objective = compiled(objective, way)

    def step():
        optimizer.zero_grad()
        value = objective(images, labels)
        value.backward()
        optimizer.step()
        return value

    start = perf_counter()
    wait(step())
    first = perf_counter() - start
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = timed(step, wait, settings)
    peak = torch.cuda.max_memory_allocated() >> 20 if device == "cuda" else None
    return {**times, "peak_mib": peak, "first_s": round(first, 1)}


def inference(settings):
    for way, precision in (
        ("channels-last", "float32"),
        ("channels-last", "half"),
        ("compile", "half"),
    ):
        if way == "compile" and "compile" not in ways(settings):
            continue
        for name, count, shape in inference_cases(settings):
            row = functools.partial(inference_row, name, shape, precision, way, settings)
            yield f"{name} ×{count} {way} {precision}", row


def inference_row(name, shape, precision, way, settings):
    import torch

    device, wait = placed(settings)
    set_precision(precision)
    model, images, _ = network(name, shape, way, device)
    kind = torch.bfloat16 if precision == "half" and device == "cpu" else torch.float16
    half = precision == "half"

    def predict(images):
        with torch.inference_mode(), torch.autocast(device, kind, enabled=half):
            return model(images).float().softmax(1)

    model.eval()
    predict = compiled(predict, way)
    on_host = images.cpu()
    whole = timed(lambda: predict(on_host.to(device)).cpu(), wait, settings)
    alone = timed(lambda: predict(images), wait, settings)
    return rates(shape, whole["ms"], alone["ms"])
