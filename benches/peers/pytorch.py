"""PyTorch's CPU kernels, on as many threads as there are processors."""

import torch
import torch.nn.functional as F

import tensors

torch.set_grad_enabled(False)


def prepare(operator, shape, size):
    x = torch.from_numpy(tensors.logits(shape))

    def upsampled():
        return F.interpolate(x, size, mode="bilinear", align_corners=False)

    if operator == "cross-entropy":
        target = torch.from_numpy(tensors.targets(shape).astype("int64"))
        return lambda: F.cross_entropy(x, target)
    return {
        "softmax": lambda: x.softmax(1),
        "log-softmax": lambda: x.log_softmax(1),
        "softmax-height": lambda: x.softmax(2),
        "softmax-width": lambda: x.softmax(3),
        "sigmoid": lambda: x.sigmoid(),
        "argmax": lambda: x.argmax(1),
        "argmax-by-max": lambda: x.max(1),
        "argmax-confidence": lambda: x.softmax(1).max(1),
        "segment": lambda: upsampled().argmax(1),
        "segment-confidence": lambda: upsampled().softmax(1).max(1),
    }.get(operator)


tensors.serve(prepare)
