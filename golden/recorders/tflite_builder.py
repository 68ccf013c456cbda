"""A small writer of .tflite files on top of the generated object API of ai-edge-litert."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {"int8": schema.TensorType.INT8, "uint8": schema.TensorType.UINT8, "int16": schema.TensorType.INT16,
         "int32": schema.TensorType.INT32, "int64": schema.TensorType.INT64, "float32": schema.TensorType.FLOAT32,
         "bool": schema.TensorType.BOOL}
ACT = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}
# LiteRT reads the option table by the operator code; names follow the schema except for these.
OPTION_NAMES = {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D", "AVERAGE_POOL_2D": "Pool2D",
                "MAX_POOL_2D": "Pool2D", "MEAN": "Reducer", "TRANSPOSE_CONV": "TransposeConv"}


def camel(name):
    return OPTION_NAMES.get(name) or "".join(p.capitalize() for p in name.split("_"))


class Builder:
    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.tensors, self.buffers, self.codes, self.ops = [], [schema.BufferT()], [], []
        self.inputs, self.outputs, self.feeds = [], [], {}

    def _tensor(self, name, shape, dtype, scale, zero, axis, buffer):
        t = schema.TensorT()
        t.name, t.shape, t.type, t.buffer = name.encode(), list(shape), TYPES[dtype], buffer
        if scale is not None:
            q = schema.QuantizationParametersT()
            q.scale = [float(s) for s in np.atleast_1d(np.asarray(scale, np.float32))]
            q.zeroPoint = [int(z) for z in np.broadcast_to(zero, len(q.scale))]
            q.quantizedDimension = axis
            t.quantization = q
        self.tensors.append(t)
        return len(self.tensors) - 1

    def input(self, name, data, scale=None, zero=0):
        data = np.asarray(data)
        i = self._tensor(name, data.shape, str(data.dtype), scale, zero, 0, 0)
        self.inputs.append(i)
        self.feeds[name] = data
        return i

    def const(self, name, data, scale=None, zero=0, axis=0):
        data = np.ascontiguousarray(data)
        b = schema.BufferT()
        b.data = np.frombuffer(data.tobytes(), np.uint8)
        self.buffers.append(b)
        return self._tensor(name, data.shape, str(data.dtype), scale, zero, axis, len(self.buffers) - 1)

    def tensor(self, name, shape, dtype="int8", scale=None, zero=0):
        return self._tensor(name, shape, dtype, scale, zero, 0, 0)

    def scale(self, i):
        return np.float32(self.tensors[i].quantization.scale[0])

    def op(self, name, inputs, outputs, final=True, version=None, **options):
        code = getattr(schema.BuiltinOperator, name)
        version = version or 1
        key = (code, version)
        if key not in [(c.builtinCode, c.version) for c in self.codes]:
            c = schema.OperatorCodeT()
            c.builtinCode, c.version, c.deprecatedBuiltinCode = code, version, min(code, 127)
            self.codes.append(c)
        o = schema.OperatorT()
        o.opcodeIndex = [(c.builtinCode, c.version) for c in self.codes].index(key)
        o.inputs, o.outputs = list(inputs), list(outputs)
        cls = getattr(schema, camel(name) + "OptionsT", None)
        if cls is not None:
            o.builtinOptions = cls()
            o.builtinOptionsType = getattr(schema.BuiltinOptions, camel(name) + "Options")
            for k, v in options.items():
                assert hasattr(o.builtinOptions, k), (name, k)
                setattr(o.builtinOptions, k, v)
        else:
            assert not options, name
        self.ops.append(o)
        if final:
            self.outputs += list(outputs)

    def build(self, description):
        g = schema.SubGraphT()
        g.tensors, g.operators, g.inputs, g.outputs, g.name = self.tensors, self.ops, self.inputs, self.outputs, b"main"
        m = schema.ModelT()
        m.version, m.operatorCodes, m.subgraphs, m.buffers = 3, self.codes, [g], self.buffers
        m.description = description.encode()
        b = flatbuffers.Builder(1024)
        b.Finish(m.Pack(b), b"TFL3")
        return bytes(b.Output())
