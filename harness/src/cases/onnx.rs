//! One layer as an ONNX model: its inputs with their quantizers, the operation, its weights, the steps and the
//! quantizer behind it.

use align_check_graph::onnx::proto::attribute_proto::AttributeType;
use align_check_graph::onnx::proto::tensor_proto::DataType;
use align_check_graph::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use align_check_graph::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use align_check_graph::{
    Activation, Affine, Binary, Node, Op, PerChannel, Pool, Quantizer, Rounding, ZeroPointAdded,
};
use align_check_simulators::network::{
    Kind, Layer, Linear, LinearForm, MatMul, Network, Operand, Post,
};
use align_check_simulators::quantize::CodeGrid;
use align_check_simulators::tensor::{Channels, Data, Tensor};
use prost::Message;

/// Domain of QONNX's quantizers.
const QONNX: &str = "qonnx.custom_op.general";

/// Why a layer cannot be written.
type Written<T> = Result<T, String>;

/// The bytes of a model of one layer, whose inputs lie on the grids of `inputs`.
///
/// # Errors
/// What of the layer has no counterpart in ONNX.
pub fn model(network: &Network, layer: &Layer, inputs: &[&Tensor]) -> Written<Vec<u8>> {
    let mut file = File::default();
    let node = network
        .graph
        .nodes
        .iter()
        .find(|node| node.name == layer.name);
    let mut names = Vec::new();
    for (&value, tensor) in layer.inputs.iter().zip(inputs) {
        let name = network.name(value).to_owned();
        if names.contains(&name) {
            return Err("an input that is read twice".into());
        }
        file.graph.input.push(info(&name, &tensor.shape));
        names.push(name);
    }
    let read: Vec<String> = names
        .iter()
        .zip(inputs)
        .map(|(name, tensor)| match tensor.grid() {
            Some(grid) => file.quantize_as(name, &format!("{name}_on_grid"), &of_grid(grid)?),
            None => Ok(name.clone()),
        })
        .collect::<Written<_>>()?;
    let made = file.operation(layer, node, &read)?;
    let made = file.steps(layer, made)?;
    let tensor = layer.tensor.clone();
    let last = match &layer.quantizer {
        None => {
            let last = file.graph.node.last_mut().ok_or("no operation")?;
            last.output = vec![tensor.clone()];
            tensor
        }
        Some(Quantizer::Affine(affine)) => file.quantize_as(&made, &tensor, affine)?,
        Some(_) => return Err("a quantizer that is neither ONNX's nor QONNX's affine one".into()),
    };
    file.graph.output.push(info(&last, &layer.shape));
    Ok(file.bytes())
}

/// A quantizer onto a grid.
fn of_grid(grid: &CodeGrid) -> Written<Affine> {
    let (min, max) = (grid.min, grid.max);
    let signed = min < 0;
    let narrow = signed && min == -max;
    let bits = 64 - (max - min).unsigned_abs().leading_zeros();
    let mut affine = Affine::quantize_linear(
        grid.scale.map(|scale| scale as f32),
        grid.zero_point.map(|zero| zero as f32),
        bits.max(1),
        signed,
    );
    affine.narrow = narrow;
    if affine.min_code() != min || affine.max_code() != max {
        return Err(format!("an input with codes {min} to {max}"));
    }
    Ok(affine)
}

#[derive(Default)]
struct File {
    graph: GraphProto,
}

impl File {
    fn bytes(mut self) -> Vec<u8> {
        self.graph.name = Some("one layer".to_owned());
        let import = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        ModelProto {
            ir_version: Some(10),
            producer_name: Some("align-check".to_owned()),
            graph: Some(self.graph),
            opset_import: vec![import("", 21), import(QONNX, 1)],
            ..Default::default()
        }
        .encode_to_vec()
    }

    fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) {
        self.node_in("", op, inputs, output, attributes);
    }

    fn node_in(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(format!("node_{output}")),
            op_type: Some(op.to_owned()),
            attribute,
            domain: Some(domain.to_owned()),
        });
    }

    fn reals(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            dims: dims(shape),
            data_type: Some(DataType::Float as i32),
            float_data: values.to_vec(),
            ..Default::default()
        });
    }

    fn integers(&mut self, name: &str, shape: &[usize], values: &[i32], kind: DataType) {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            dims: dims(shape),
            data_type: Some(kind as i32),
            int32_data: values.to_vec(),
            ..Default::default()
        });
    }

    /// Scale and zero point of `affine` as initializers.
    fn parameters(&mut self, name: &str, affine: &Affine, kind: DataType) -> [String; 2] {
        let shape = |list: &PerChannel<f32>| match list.axis {
            Some(_) if list.values.len() > 1 => vec![list.values.len()],
            _ => Vec::new(),
        };
        let [scale, zero] = ["scale", "zero"].map(|part| format!("{name}_{part}"));
        self.reals(&scale, &shape(&affine.scale), &affine.scale.values);
        let zeros: Vec<i32> = (0..affine.scale.values.len())
            .map(|c| affine.zero_point.at(c) as i32)
            .collect();
        self.integers(&zero, &shape(&affine.scale), &zeros, kind);
        [scale, zero]
    }

    /// A quantizer from `x` to `y`; the name under which the result is read.
    fn quantize_as(&mut self, x: &str, y: &str, affine: &Affine) -> Written<String> {
        if let Some(kind) = integer_type(affine) {
            let [scale, zero] = self.parameters(y, affine, kind);
            let axis = || affine.scale.axis.map(|axis| int("axis", axis as i64));
            self.node(
                "QuantizeLinear",
                &[x, &scale, &zero],
                y,
                axis().into_iter().collect(),
            );
            let read = format!("{y}_real");
            self.node(
                "DequantizeLinear",
                &[y, &scale, &zero],
                &read,
                axis().into_iter().collect(),
            );
            return Ok(read);
        }
        let symmetric = affine.zero_point.values.iter().all(|&zero| zero == 0.0);
        if affine.multiplier.is_some()
            || affine.scale.values.len() > 1
            || (affine.zero_point_added != ZeroPointAdded::BeforeRounding && !symmetric)
        {
            return Err("a quantizer that neither QuantizeLinear nor QONNX's Quant is".into());
        }
        let mode = match affine.rounding {
            Rounding::HalfEven => "ROUND",
            Rounding::HalfAway => "HALF_UP",
            Rounding::HalfTowardZero => "HALF_DOWN",
            Rounding::Floor => "FLOOR",
            Rounding::Ceil => "CEIL",
            Rounding::TowardZero => "DOWN",
            Rounding::AwayFromZero => "UP",
            Rounding::HalfUp | Rounding::HalfEvenNegativeUp => {
                return Err("a quantizer whose rounding QONNX has not".into());
            }
        };
        let [scale, zero, bits] = ["scale", "zero", "bits"].map(|part| format!("{y}_{part}"));
        self.reals(&scale, &[], &affine.scale.values);
        self.reals(&zero, &[], &affine.zero_point.values[..1]);
        self.reals(&bits, &[], &[affine.bits as f32]);
        let attributes = vec![
            int("signed", i64::from(affine.signed)),
            int("narrow", i64::from(affine.narrow)),
            text("rounding_mode", mode),
        ];
        self.node_in(QONNX, "Quant", &[x, &scale, &zero, &bits], y, attributes);
        Ok(y.to_owned())
    }

    /// A constant tensor; the name under which its reals are read.
    fn constant(&mut self, name: &str, tensor: &Tensor, shape: &[usize]) -> Written<String> {
        let Data::Codes { codes, grid } = &tensor.data else {
            let reals: Vec<f32> = tensor.to_real().iter().map(|&v| v as f32).collect();
            self.reals(name, shape, &reals);
            return Ok(name.to_owned());
        };
        let kind = match (grid.min, grid.max) {
            (min, max) if min >= -128 && max <= 127 => DataType::Int8,
            (0.., max) if max <= 255 => DataType::Uint8,
            (min, max) if min >= -32_768 && max <= 32_767 => DataType::Int16,
            (0.., max) if max <= 65_535 => DataType::Uint16,
            _ => return Err("codes of more than 16 bits".into()),
        };
        let affine = Affine::quantize_linear(
            grid.scale.map(|scale| scale as f32),
            grid.zero_point.map(|zero| zero as f32),
            8,
            kind == DataType::Int8,
        );
        let [scale, zero] = self.parameters(name, &affine, kind);
        let stored = format!("{name}_codes");
        self.integers(&stored, shape, codes, kind);
        let axis = grid.scale.axis.filter(|_| !grid.is_uniform());
        let axis = axis
            .map(|axis| int("axis", axis as i64))
            .into_iter()
            .collect();
        self.node("DequantizeLinear", &[&stored, &scale, &zero], name, axis);
        Ok(name.to_owned())
    }

    /// The arithmetic of a layer; the name of its result.
    fn operation(
        &mut self,
        layer: &Layer,
        node: Option<&Node>,
        inputs: &[String],
    ) -> Written<String> {
        let op = node.map(|node| &node.op);
        let y = "result".to_owned();
        let names: Vec<&str> = inputs.iter().map(String::as_str).collect();
        match &layer.kind {
            Kind::Linear(linear) => self.linear(layer, linear, op, names[0], &y)?,
            Kind::MatMul(MatMul { operands, .. }) => {
                let [a, b] = self.operands(operands, inputs)?;
                self.node("MatMul", &[&a, &b], &y, Vec::new());
            }
            Kind::Binary { op, operands, .. } => {
                let [a, b] = self.operands(operands, inputs)?;
                let name = match op {
                    Binary::Add => "Add",
                    Binary::Sub => "Sub",
                    Binary::Mul => "Mul",
                    Binary::Div => "Div",
                    Binary::AddShifted => {
                        return Err("an addition that ONNX has not (pot_scale_int16)".into());
                    }
                };
                self.node(name, &[&a, &b], &y, Vec::new());
            }
            Kind::Average { .. } => match op {
                Some(Op::AveragePool {
                    pool: windows,
                    count_include_pad,
                }) => {
                    let mut attributes = pool(windows);
                    attributes.push(int("count_include_pad", i64::from(*count_include_pad)));
                    self.node("AveragePool", &names, &y, attributes);
                }
                Some(Op::Mean { axes }) => {
                    let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
                    self.graph.initializer.push(TensorProto {
                        name: Some("axes".to_owned()),
                        dims: vec![axes.len() as i64],
                        data_type: Some(DataType::Int64 as i32),
                        int64_data: axes,
                        ..Default::default()
                    });
                    let keeps = layer.result_shape.len() == layer.input_shapes[0].len();
                    let attributes = vec![int("keepdims", i64::from(keeps))];
                    self.node("ReduceMean", &[names[0], "axes"], &y, attributes);
                }
                _ => return Err("a mean that is no AveragePool or ReduceMean".into()),
            },
            Kind::MaxPool(_) => match op {
                Some(Op::MaxPool(windows)) => self.node("MaxPool", &names, &y, pool(windows)),
                _ => return Err("a maximum that is no MaxPool".into()),
            },
            Kind::Concat { axis, operands } => {
                let operands = operands
                    .iter()
                    .enumerate()
                    .map(|(at, operand)| self.operand(at, operand, inputs))
                    .collect::<Written<Vec<_>>>()?;
                let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
                self.node("Concat", &operands, &y, vec![int("axis", *axis as i64)]);
            }
            Kind::Softmax { axis, beta } if *beta == 1.0 => {
                self.node("Softmax", &names, &y, vec![int("axis", *axis as i64)]);
            }
            Kind::Pass => return Ok(inputs[0].clone()),
            Kind::Softmax { .. } => return Err("a softmax with a factor".into()),
            Kind::Resample(_) => return Err("a resampling, whose tables ONNX has not".into()),
            Kind::Movement(_) => return Err("data movement".into()),
            Kind::Reinterpret { .. } => return Err("codes that are read with another scale".into()),
            Kind::DynamicQuantize(_) => return Err("a dynamic quantizer".into()),
        }
        Ok(y)
    }

    fn operands(&mut self, operands: &[Operand; 2], inputs: &[String]) -> Written<[String; 2]> {
        Ok([
            self.operand(0, &operands[0], inputs)?,
            self.operand(1, &operands[1], inputs)?,
        ])
    }

    fn operand(&mut self, at: usize, operand: &Operand, inputs: &[String]) -> Written<String> {
        match operand {
            Operand::Input(index) => Ok(inputs[*index].clone()),
            Operand::Constant(tensor) => {
                self.constant(&format!("constant_{at}"), tensor, &tensor.shape)
            }
        }
    }

    fn linear(
        &mut self,
        layer: &Layer,
        linear: &Linear,
        op: Option<&Op>,
        x: &str,
        y: &str,
    ) -> Written<()> {
        if linear.rows.is_some() {
            return Err("a bias that differs from row to row".into());
        }
        if linear.factor != 1.0 {
            return Err("a product with a factor (alpha)".into());
        }
        let shape = &linear.shape;
        let channels = shape.channels / shape.groups;
        match (&linear.form, op) {
            (LinearForm::Image, Some(Op::Conv(conv))) => {
                let mut own = vec![shape.out_channels, channels];
                own.extend(&conv.kernel);
                let w = self.constant("weights", &linear.weights, &own)?;
                let mut inputs = vec![x, &w];
                let bias = self.bias(linear, layer)?;
                inputs.extend(bias.as_deref());
                let pads: Vec<usize> = conv
                    .pads_before
                    .iter()
                    .chain(&conv.pads_after)
                    .copied()
                    .collect();
                let attributes = vec![
                    ints("kernel_shape", &conv.kernel),
                    ints("strides", &conv.strides),
                    ints("pads", &pads),
                    ints("dilations", &conv.dilations),
                    int("group", conv.groups as i64),
                ];
                self.node("Conv", &inputs, y, attributes);
            }
            (
                LinearForm::Rows {
                    transposed: false, ..
                },
                _,
            ) if layer.input_shapes[0].len() == 2 => {
                let w =
                    self.constant("weights", &linear.weights, &[shape.out_channels, channels])?;
                let mut inputs = vec![x, &w];
                let bias = self.bias(linear, layer)?;
                inputs.extend(bias.as_deref());
                self.node("Gemm", &inputs, y, vec![int("transB", 1)]);
            }
            _ => return Err("a product that is no Conv, or Gemm of a matrix".into()),
        }
        Ok(())
    }

    /// A bias, as the file stores it.
    fn bias(&mut self, linear: &Linear, layer: &Layer) -> Written<Option<String>> {
        let Some(bias) = &linear.bias else {
            return Ok(None);
        };
        let entries = bias.reals.len();
        if let Some(codes) = &bias.codes {
            let stated = bias.stated.as_ref().ok_or("a bias without a scale")?;
            let scales: Vec<f32> = stated.scales.iter().map(|&scale| scale as f32).collect();
            let codes: Vec<i32> = codes
                .iter()
                .map(|&code| i32::try_from(code))
                .collect::<Result<_, _>>()
                .map_err(|_| "a bias of more than 32 bits")?;
            self.integers("bias_codes", &[entries], &codes, DataType::Int32);
            self.reals("bias_scale", &[scales.len()], &scales);
            self.integers(
                "bias_zero",
                &[scales.len()],
                &vec![0; scales.len()],
                DataType::Int32,
            );
            let inputs = ["bias_codes", "bias_scale", "bias_zero"];
            self.node("DequantizeLinear", &inputs, "bias", vec![int("axis", 0)]);
        } else {
            let reals: Vec<f32> = bias.reals.iter().map(|&v| v as f32).collect();
            self.reals("bias", &[entries], &reals);
        }
        if layer.channels().count != entries {
            return Err("a bias of another size than the channels".into());
        }
        Ok(Some("bias".to_owned()))
    }

    /// What comes behind the operation.
    fn steps(&mut self, layer: &Layer, mut x: String) -> Written<String> {
        for (at, post) in layer.posts.iter().enumerate() {
            let y = format!("step_{at}");
            match post {
                Post::Clamp { lo, hi } => {
                    if *lo == 0.0 && *hi == f64::INFINITY {
                        self.node("Relu", &[&x], &y, Vec::new());
                    } else {
                        let bound =
                            |v: f64| v.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32;
                        let [low, high] = ["min", "max"].map(|end| format!("{y}_{end}"));
                        self.reals(&low, &[], &[bound(*lo)]);
                        self.reals(&high, &[], &[bound(*hi)]);
                        self.node("Clip", &[&x, &low, &high], &y, Vec::new());
                    }
                }
                Post::Leaky { slope, channels } if *channels == Channels::ONE => {
                    self.node(
                        "LeakyRelu",
                        &[&x],
                        &y,
                        vec![float("alpha", slope[0] as f32)],
                    );
                }
                Post::Affine { mul, add, channels }
                    if layer.result_shape.get(1) == Some(&channels.count)
                        && channels.inner == layer.result_shape[2..].iter().product::<usize>() =>
                {
                    self.normalize(&x, &y, mul, add);
                }
                Post::Function(Activation::Sigmoid) => self.node("Sigmoid", &[&x], &y, Vec::new()),
                Post::Function(Activation::Tanh) => self.node("Tanh", &[&x], &y, Vec::new()),
                Post::Function(Activation::HardSwish) => {
                    self.node("HardSwish", &[&x], &y, Vec::new());
                }
                Post::Function(Activation::HardSigmoid { alpha, beta }) => {
                    let attributes = vec![float("alpha", *alpha), float("beta", *beta)];
                    self.node("HardSigmoid", &[&x], &y, attributes);
                }
                _ => return Err("a step behind it that ONNX has not in this form".into()),
            }
            x = y;
        }
        Ok(x)
    }

    /// A factor and an offset a channel, as a batch normalization.
    fn normalize(&mut self, x: &str, y: &str, mul: &[f64], add: &[f64]) {
        let short = |list: &[f64]| -> Vec<f32> { list.iter().map(|&v| v as f32).collect() };
        let names = ["scale", "offset", "mean", "variance"].map(|part| format!("{y}_{part}"));
        let count = mul.len();
        let values = [short(mul), short(add), vec![0.0; count], vec![1.0; count]];
        for (name, values) in names.iter().zip(values) {
            self.reals(name, &[count], &values);
        }
        let [scale, offset, mean, variance] = &names;
        let attributes = vec![float("epsilon", 0.0)];
        self.node(
            "BatchNormalization",
            &[x, scale, offset, mean, variance],
            y,
            attributes,
        );
    }
}

/// The integer type whose whole range a `QuantizeLinear` has; `None` where it is none of ONNX's.
fn integer_type(affine: &Affine) -> Option<DataType> {
    let whole = affine
        .zero_point
        .values
        .iter()
        .all(|zero| zero.fract() == 0.0);
    let symmetric = affine.zero_point.values.iter().all(|&zero| zero == 0.0);
    if affine.narrow
        || affine.multiplier.is_some()
        || affine.rounding != Rounding::HalfEven
        || !whole
        || (affine.zero_point_added != ZeroPointAdded::AfterRounding && !symmetric)
    {
        return None;
    }
    match (affine.bits, affine.signed) {
        (8, true) => Some(DataType::Int8),
        (8, false) => Some(DataType::Uint8),
        (16, true) => Some(DataType::Int16),
        (16, false) => Some(DataType::Uint16),
        _ => None,
    }
}

fn pool(pool: &Pool) -> Vec<AttributeProto> {
    let pads: Vec<usize> = pool
        .pads_before
        .iter()
        .chain(&pool.pads_after)
        .copied()
        .collect();
    vec![
        ints("kernel_shape", &pool.kernel),
        ints("strides", &pool.strides),
        ints("pads", &pads),
        ints("dilations", &pool.dilations),
    ]
}

fn dims(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&extent| extent as i64).collect()
}

fn info(name: &str, shape: &[usize]) -> ValueInfoProto {
    let dim = |&extent: &usize| Dimension {
        value: Some(dimension::Value::DimValue(extent as i64)),
    };
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            tensor_type: Some(type_proto::Tensor {
                elem_type: Some(DataType::Float as i32),
                shape: Some(TensorShapeProto {
                    dim: shape.iter().map(dim).collect(),
                }),
            }),
        }),
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(value),
        ..Default::default()
    }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Ints as i32),
        ints: dims(values),
        ..Default::default()
    }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Float as i32),
        f: Some(value),
        ..Default::default()
    }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::String as i32),
        s: Some(value.as_bytes().to_vec()),
        ..Default::default()
    }
}
