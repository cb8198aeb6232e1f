"""ONNX Runtime's CPU kernels, on as many threads as there are processors."""

import onnxruntime
from onnx import TensorProto, helper

import tensors


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs, outputs, **attributes)


def prepare(operator, shape, size):
    resized = node("Resize", ["x", "", "", "size"], ["r"], mode="linear", coordinate_transformation_mode="half_pixel")
    graphs = {
        "softmax": [node("Softmax", ["x"], ["y"], axis=1)],
        "log-softmax": [node("LogSoftmax", ["x"], ["y"], axis=1)],
        "softmax-height": [node("Softmax", ["x"], ["y"], axis=2)],
        "softmax-width": [node("Softmax", ["x"], ["y"], axis=3)],
        "sigmoid": [node("Sigmoid", ["x"], ["y"])],
        "argmax": [node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)],
        "argmax-confidence": [
            node("Softmax", ["x"], ["p"], axis=1),
            node("ArgMax", ["p"], ["y"], axis=1, keepdims=0),
            node("ReduceMax", ["p", "axes"], ["z"], keepdims=0),
        ],
        "segment": [resized, node("ArgMax", ["r"], ["y"], axis=1, keepdims=0)],
    }
    if operator not in graphs:
        return None
    nodes = graphs[operator]
    floating = operator in ("softmax", "log-softmax", "softmax-height", "softmax-width", "sigmoid")
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT if floating else TensorProto.INT64, None)]
    if operator == "argmax-confidence":
        outputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    constants = [
        helper.make_tensor("size", TensorProto.INT64, [4], [1, shape[0], *size]),
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *shape])
    graph = helper.make_graph(nodes, operator, [x], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits = {"x": tensors.logits(shape)}
    return lambda: session.run(None, logits)


tensors.serve(prepare)
