//! Convolutions and matrix products with constant weights, all in the form of a convolution.

use std::borrow::Cow;
use std::sync::Arc;

use align_check_graph::{Constant, Graph, Node, Op, ValueId};
use align_check_specs::Product;

use super::movement::Movement;
use crate::kernels::ConvShape;
use crate::network::{Linear, LinearBias, LinearForm, RowBias, StatedBias};
use crate::tensor::{Channels, Tensor};

/// A node in the form of a convolution.
pub struct Built {
    /// The convolution.
    pub linear: Linear,
    /// The value of its activation.
    pub input: ValueId,
}

/// The [`Linear`] form of a node and the value of its activation; `None` where both operands are
/// activations, or the constant one is no plain matrix.
///
/// # Errors
/// A text where the operation cannot be brought into that form.
pub fn build(
    graph: &Graph,
    node: &Node,
    constants: &dyn Fn(ValueId) -> Option<Arc<Tensor>>,
) -> Result<Option<Built>, String> {
    let constant = |i: usize| node.inputs.get(i).and_then(|&v| constants(v));
    let shape = |i: usize| graph.shape(node.inputs[i]);
    let out = graph.shape(node.output);
    let bias = |i: usize, channels: usize, factor: f64| match node.inputs.get(i) {
        None => Ok(None),
        Some(&value) => match constant(i) {
            None => Err("a bias that is not constant".to_string()),
            Some(t) => Ok(Some(LinearBias {
                reals: channel_bias(&t, channels, factor)?,
                codes: (factor == 1.0)
                    .then(|| bias_codes(graph, value, channels))
                    .flatten(),
                stated: (factor == 1.0)
                    .then(|| stated(graph, value, &t, channels))
                    .flatten(),
            })),
        },
    };
    let x = node.inputs[0];
    let (linear, input) = match &node.op {
        Op::Conv(conv) => {
            let weights = constant(1).ok_or("weights that are not constant")?;
            let [height, width] = image(&shape(0)[2..])?;
            let [out_height, out_width] = image(&out[2..])?;
            let shape = ConvShape {
                channels: shape(0)[1],
                height,
                width,
                out_channels: out[1],
                out_height,
                out_width,
                kernel: image(&conv.kernel)?,
                strides: image(&conv.strides)?,
                pads: pads(&conv.pads_before)?,
                dilations: image(&conv.dilations)?,
                groups: conv.groups,
            };
            // A depthwise convolution of one channel is known by its name only.
            let depthwise = conv.groups == shape.channels
                && (conv.groups > 1 || node.op_type.starts_with("DEPTHWISE"));
            let product = if depthwise {
                Product::Depthwise
            } else {
                Product::Convolution
            };
            let linear = Linear {
                form: LinearForm::Image,
                bias: bias(2, shape.out_channels, 1.0)?,
                by_reciprocal: None,
                rows: None,
                weights,
                factor: 1.0,
                batch: out[0],
                product,
                shape,
            };
            (linear, x)
        }
        Op::ConvTranspose(conv) => {
            let weights = constant(1).ok_or("weights that are not constant")?;
            let [height, width] = image(&shape(0)[2..])?;
            let [out_height, out_width] = image(&out[2..])?;
            let kernel = image(&conv.kernel)?;
            let dilations = image(&conv.dilations)?;
            let strides = image(&conv.strides)?;
            let cut = pads(&conv.pads_before)?;
            // A transposed convolution is a convolution of the spread-out input with the mirrored kernel;
            // the border is as wide as the (dilated) kernel, less what the file cuts off.
            let reach = [
                dilations[0] * (kernel[0] - 1),
                dilations[1] * (kernel[1] - 1),
            ];
            let before = [
                reach[0] as isize - cut[0] as isize,
                reach[1] as isize - cut[1] as isize,
            ];
            let shape = ConvShape {
                channels: shape(0)[1],
                height: out_height + reach[0],
                width: out_width + reach[1],
                out_channels: out[1],
                out_height,
                out_width,
                kernel,
                strides: [1, 1],
                pads: [0, 0],
                dilations,
                groups: conv.groups,
            };
            let linear = Linear {
                form: LinearForm::Spread {
                    strides,
                    extent: [height, width],
                    before,
                },
                weights: Arc::new(mirrored(&weights, &shape)?),
                bias: bias(2, shape.out_channels, 1.0)?,
                by_reciprocal: None,
                rows: None,
                factor: 1.0,
                batch: out[0],
                product: Product::Transposed,
                shape,
            };
            (linear, x)
        }
        Op::Gemm(gemm) => {
            let Some(weights) = constant(1) else {
                return if node.inputs.len() == 2
                    && gemm.alpha == 1.0
                    && !gemm.trans_a
                    && !gemm.trans_b
                {
                    Ok(None)
                } else {
                    Err("two activations with a bias, a factor or a transposition".into())
                };
            };
            if constants(x).is_some() {
                return Err("a constant first operand".into());
            }
            let (rows, columns) = (out[0], out[1]);
            let depth = if gemm.trans_b {
                weights.shape[1]
            } else {
                weights.shape[0]
            };
            let weights = if gemm.trans_b {
                weights
            } else {
                Arc::new(transposed(&weights)?)
            };
            let beta = f64::from(gemm.beta);
            let (bias, by_row) = match bias(2, columns, beta) {
                Ok(bias) => (bias, None),
                Err(what) => {
                    let full = constant(2).ok_or(what)?;
                    let codes = (beta == 1.0)
                        .then(|| integers(graph, node.inputs[2]))
                        .flatten();
                    (None, Some(row_bias(&full, codes, rows, columns, beta)?))
                }
            };
            let linear = Linear {
                form: LinearForm::Rows {
                    rows,
                    transposed: gemm.trans_a,
                },
                shape: matrix(depth, rows, columns),
                weights: Arc::new(as_kernel(&weights)?),
                bias,
                by_reciprocal: None,
                rows: by_row,
                factor: f64::from(gemm.alpha),
                batch: 1,
                product: if node.inputs.len() > 2 {
                    Product::FullyConnected
                } else {
                    Product::FullyConnectedUnbiased
                },
            };
            (linear, x)
        }
        Op::MatMul => match (constant(0), constant(1)) {
            (None, Some(weights)) if weights.shape.len() == 2 => {
                let (depth, columns) = (weights.shape[0], weights.shape[1]);
                let rows = out.iter().product::<usize>() / columns.max(1);
                let linear = Linear {
                    form: LinearForm::Rows {
                        rows,
                        transposed: false,
                    },
                    shape: matrix(depth, rows, columns),
                    weights: Arc::new(as_kernel(&transposed(&weights)?)?),
                    bias: None,
                    by_reciprocal: None,
                    rows: None,
                    factor: 1.0,
                    batch: 1,
                    product: Product::FullyConnectedUnbiased,
                };
                (linear, x)
            }
            (Some(weights), None) if weights.shape.len() == 2 && shape(1).len() == 2 => {
                let linear = Linear {
                    form: LinearForm::Columns,
                    shape: matrix(weights.shape[1], shape(1)[1], weights.shape[0]),
                    weights: Arc::new(as_kernel(&weights)?),
                    bias: None,
                    by_reciprocal: None,
                    rows: None,
                    factor: 1.0,
                    batch: 1,
                    product: Product::FullyConnectedUnbiased,
                };
                (linear, node.inputs[1])
            }
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(Built { linear, input }))
}

/// A bias of shape `(rows, 1)` or `(rows, columns)`, times `factor`.
fn row_bias(
    bias: &Tensor,
    codes: Option<Vec<i64>>,
    rows: usize,
    columns: usize,
    factor: f64,
) -> Result<RowBias, String> {
    let reals: Vec<f64> = bias.to_real().iter().map(|v| v * factor).collect();
    let channels = match bias.shape[..] {
        [r, 1] if r == rows => Channels {
            count: rows,
            inner: columns,
        },
        [r, c] if r == rows && c == columns => Channels {
            count: rows * columns,
            inner: 1,
        },
        _ => {
            return Err(format!(
                "a bias of shape {:?} for {columns} outputs",
                bias.shape
            ));
        }
    };
    Ok(RowBias {
        entries: LinearBias {
            reals,
            codes,
            stated: None,
        },
        channels,
    })
}

fn matrix(depth: usize, positions: usize, out_channels: usize) -> ConvShape {
    ConvShape {
        channels: depth,
        height: 1,
        width: positions,
        out_channels,
        out_height: 1,
        out_width: positions,
        kernel: [1, 1],
        strides: [1, 1],
        pads: [0, 0],
        dilations: [1, 1],
        groups: 1,
    }
}

/// One or two spatial numbers as two.
fn image(axes: &[usize]) -> Result<[usize; 2], String> {
    match *axes {
        [w] => Ok([1, w]),
        [h, w] => Ok([h, w]),
        _ => Err(format!(
            "{} spatial axes (1 and 2 are simulated)",
            axes.len()
        )),
    }
}

fn pads(axes: &[usize]) -> Result<[usize; 2], String> {
    match *axes {
        [w] => Ok([0, w]),
        _ => image(axes),
    }
}

/// A bias as one real an output channel, times `factor`.
fn channel_bias(bias: &Tensor, channels: usize, factor: f64) -> Result<Vec<f64>, String> {
    let values = bias.to_real();
    let last = bias.shape.last().copied().unwrap_or(1);
    if values.len() != last || (last != 1 && last != channels) {
        return Err(format!(
            "a bias of shape {:?} for {channels} outputs",
            bias.shape
        ));
    }
    Ok((0..channels)
        .map(|c| values[if last == 1 { 0 } else { c }] * factor)
        .collect())
}

/// The integers of a bias that the file stores as such, one an output channel.
fn bias_codes(graph: &Graph, value: ValueId, channels: usize) -> Option<Vec<i64>> {
    let codes = integers(graph, value)?;
    match codes.len() {
        1 => Some(vec![codes[0]; channels]),
        n if n == channels => Some(codes),
        _ => None,
    }
}

/// The integers of a bias that the file stores as such.
fn integers(graph: &Graph, value: ValueId) -> Option<Vec<i64>> {
    let value = graph.value(value);
    let stored = value.stored.as_ref()?;
    let Some(Constant::I64(codes)) = value.constant.as_deref() else {
        return None;
    };
    let symmetric = stored.zero_point.values.iter().all(|&z| z == 0.0);
    symmetric.then(|| codes.clone())
}

/// The grid of a bias: of the integers in the file, or of the quantizer behind its constant.
fn stated(graph: &Graph, value: ValueId, bias: &Tensor, channels: usize) -> Option<StatedBias> {
    let at = |count: usize, c: usize| if count == 1 { 0 } else { c };
    let fits = |count: usize| count == 1 || count == channels;
    if let Some(stored) = &graph.value(value).stored {
        let values = &stored.scale.values;
        return fits(values.len()).then(|| StatedBias {
            scales: (0..channels)
                .map(|c| f64::from(values[at(values.len(), c)]))
                .collect(),
            bits: stored.bits,
        });
    }
    let grid = bias.grid()?;
    let values = &grid.scale.values;
    fits(values.len()).then(|| StatedBias {
        scales: (0..channels).map(|c| values[at(values.len(), c)]).collect(),
        bits: 64 - (grid.max - grid.min).unsigned_abs().leading_zeros(),
    })
}

fn transposed(weights: &Tensor) -> Result<Tensor, String> {
    let shape = [weights.shape[1], weights.shape[0]];
    Ok(Movement::of(&Op::Transpose { perm: vec![1, 0] }, &weights.shape, &shape)?.apply(weights))
}

/// `(m, k)` as `(m, k, 1, 1)`.
fn as_kernel(weights: &Tensor) -> Result<Tensor, String> {
    let shape = [weights.shape[0], weights.shape[1], 1, 1];
    Ok(Movement::of(&Op::Reshape, &weights.shape, &shape)?.apply(weights))
}

/// Weights `(C, M/groups, kh, kw)` of a transposed convolution as `(M, C/groups, kh, kw)` with both
/// spatial axes mirrored.
fn mirrored(weights: &Tensor, shape: &ConvShape) -> Result<Tensor, String> {
    let [kh, kw] = shape.kernel;
    let (c_in, m_in) = (
        shape.channels / shape.groups,
        shape.out_channels / shape.groups,
    );
    let grouped = [shape.groups, c_in, m_in, kh, kw];
    let swapped = [shape.groups, m_in, c_in, kh, kw];
    let full = [shape.out_channels, c_in, kh, kw];
    // A scale for each output channel stands along axis 1 of the file's layout; with groups that axis
    // repeats, so it is only kept apart for one group.
    let flip = Op::Slice {
        starts: vec![0, 0, 0, kh - 1, kw - 1],
        steps: vec![1, 1, 1, -1, -1],
    };
    let one = Movement::of(&Op::Reshape, &weights.shape, &grouped)?.apply(weights);
    let two = Movement::of(
        &Op::Transpose {
            perm: vec![0, 2, 1, 3, 4],
        },
        &grouped,
        &swapped,
    )?
    .apply(&one);
    let three = Movement::of(&flip, &swapped, &swapped)?.apply(&two);
    Ok(Movement::of(&Op::Reshape, &swapped, &full)?.apply(&three))
}

impl Linear {
    /// The input as images `(batch, channels, height, width)`, one after the other; `fill` stands where
    /// zeros are inserted.
    pub fn images<'x, T: Copy>(&self, x: &'x [T], fill: T) -> Cow<'x, [T]> {
        let shape = &self.shape;
        match &self.form {
            LinearForm::Image
            | LinearForm::Columns
            | LinearForm::Rows { rows: 1, .. }
            | LinearForm::Rows {
                transposed: true, ..
            } => Cow::Borrowed(x),
            LinearForm::Rows { rows, .. } => Cow::Owned(transpose(x, *rows, shape.channels)),
            LinearForm::Spread {
                strides,
                extent,
                before,
            } => {
                let planes = self.batch * shape.channels;
                let size = shape.height * shape.width;
                let mut out = vec![fill; planes * size];
                for plane in 0..planes {
                    for y in 0..extent[0] {
                        let to_y = (y * strides[0]) as isize + before[0];
                        if to_y < 0 || to_y >= shape.height as isize {
                            continue;
                        }
                        for at in 0..extent[1] {
                            let to_x = (at * strides[1]) as isize + before[1];
                            if to_x >= 0 && to_x < shape.width as isize {
                                out[plane * size + to_y as usize * shape.width + to_x as usize] =
                                    x[(plane * extent[0] + y) * extent[1] + at];
                            }
                        }
                    }
                }
                Cow::Owned(out)
            }
        }
    }

    /// Brings sums of `(out channels, positions)` into the layout of the node's output.
    pub fn to_output<T: Copy>(&self, sums: Vec<T>) -> Vec<T> {
        match &self.form {
            LinearForm::Rows { rows, .. } if *rows > 1 => {
                transpose(&sums, self.shape.out_channels, *rows)
            }
            _ => sums,
        }
    }

    /// Elements of one input image.
    pub fn image_len(&self) -> usize {
        self.shape.channels * self.shape.height * self.shape.width
    }

    /// Elements of one output image.
    pub fn output_len(&self) -> usize {
        self.shape.out_channels * self.shape.out_height * self.shape.out_width
    }

    /// Multiplications of one batch.
    pub fn products(&self) -> usize {
        let s = &self.shape;
        self.batch * self.output_len() * (s.channels / s.groups) * s.kernel[0] * s.kernel[1]
    }
}

/// `(rows, columns)` to `(columns, rows)`.
fn transpose<T: Copy>(x: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(x.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| x[row * columns + column]));
    }
    out
}
