//! Convolutions and pools: everything that slides a window.

use crate::onnx::bind::Binder;
use crate::onnx::fail::{Outcome, malformed, shown, unsupported};
use crate::onnx::tensor::elements;
use crate::onnx::{FileNode, Slot};
use crate::{Conv, ConvTranspose, Op, Pool};

/// Largest stride, dilation, padding or kernel extent: so that products of two stay far from 2^63.
const LARGEST: i64 = 1 << 30;

/// A list attribute with one non-negative entry a spatial axis.
fn extents(
    node: &FileNode,
    name: &str,
    count: usize,
    least: i64,
    default: usize,
) -> Outcome<Vec<usize>> {
    let Some(list) = node.attrs().ints(name)? else {
        return Ok(vec![default; count]);
    };
    if list.len() != count || list.iter().any(|x| !(least..=LARGEST).contains(x)) {
        return malformed(format!(
            "attribute '{name}' {} must be {count} numbers from {least} to {LARGEST}",
            shown(&format!("{list:?}"))
        ));
    }
    Ok(list.iter().map(|&x| x as usize).collect())
}

/// How the padding is found.
#[derive(Clone, Copy, PartialEq)]
enum AutoPad {
    Explicit,
    Valid,
    /// The odd element goes after (`SAME_UPPER`) or before (`SAME_LOWER`).
    Same {
        upper: bool,
    },
}

fn auto_pad(node: &FileNode) -> Outcome<AutoPad> {
    match node.attrs().string("auto_pad")?.unwrap_or("NOTSET") {
        "NOTSET" | "" => Ok(AutoPad::Explicit),
        "VALID" => Ok(AutoPad::Valid),
        "SAME_UPPER" => Ok(AutoPad::Same { upper: true }),
        "SAME_LOWER" => Ok(AutoPad::Same { upper: false }),
        other => malformed(format!("auto_pad '{}' does not exist", shown(other))),
    }
}

/// Explicit padding, before and after.
fn explicit_pads(node: &FileNode, count: usize) -> Outcome<(Vec<usize>, Vec<usize>)> {
    let mut before = extents(node, "pads", 2 * count, 0, 0)?;
    let after = before.split_off(count);
    Ok((before, after))
}

/// Splits a padding in two.
fn halves(total: usize, upper: bool) -> (usize, usize) {
    let small = total / 2;
    if upper {
        (small, total - small)
    } else {
        (total - small, small)
    }
}

/// Distance from a window's first to its last element, plus 1.
fn reach(kernel: usize, dilation: usize) -> i128 {
    (kernel as i128 - 1) * dilation as i128 + 1
}

/// Windows over some spatial axes, with the number of positions along each.
fn windows(
    node: &FileNode,
    spatial: &[usize],
    kernel: Vec<usize>,
    ceil: bool,
) -> Outcome<(Pool, Vec<usize>)> {
    let count = spatial.len();
    let strides = extents(node, "strides", count, 1, 1)?;
    let dilations = extents(node, "dilations", count, 1, 1)?;
    let auto = auto_pad(node)?;
    if matches!(auto, AutoPad::Same { .. }) && dilations.iter().any(|&d| d > 1) {
        // onnxruntime 1.32.0 refuses it for convolutions and forgets the dilation for pools.
        return unsupported(
            "auto_pad SAME with dilations, on which runtimes disagree; write the pads out",
        );
    }
    let (mut before, mut after) = match auto {
        AutoPad::Explicit => explicit_pads(node, count)?,
        _ => (vec![0; count], vec![0; count]),
    };
    let mut out = Vec::with_capacity(count);
    for axis in 0..count {
        let (extent, stride) = (spatial[axis] as i128, strides[axis] as i128);
        let reach = reach(kernel[axis], dilations[axis]);
        if let AutoPad::Same { upper } = auto {
            let positions = (extent + stride - 1) / stride;
            let total = ((positions - 1) * stride + reach - extent).max(0);
            (before[axis], after[axis]) =
                halves(usize::try_from(total).unwrap_or(usize::MAX), upper);
            out.push(usize::try_from(positions).unwrap_or(usize::MAX));
            continue;
        }
        let room = extent + before[axis] as i128 + after[axis] as i128 - reach;
        if room < 0 {
            return malformed(format!(
                "its window reaches over {reach} elements, but axis {} has only {} with padding",
                axis + 2,
                room + reach
            ));
        }
        let mut positions = if ceil {
            (room + stride - 1) / stride
        } else {
            room / stride
        } + 1;
        // A last window that would start in the padding after the data is dropped, as PyTorch and
        // ONNX Runtime do (ONNX text of MaxPool-19: "starts in the right padded region").
        if ceil && (positions - 1) * stride >= extent + before[axis] as i128 {
            positions -= 1;
        }
        out.push(usize::try_from(positions).unwrap_or(usize::MAX));
    }
    Ok((
        Pool {
            kernel,
            strides,
            pads_before: before,
            pads_after: after,
            dilations,
        },
        out,
    ))
}

/// The kernel's extent, from the attribute or else from the weights.
fn kernel_of(node: &FileNode, weights: &[usize]) -> Outcome<Vec<usize>> {
    let kernel = weights.get(2..).unwrap_or(&[]);
    if kernel.iter().any(|&k| k == 0 || k as i64 > LARGEST) {
        return malformed(format!(
            "its weights of shape {weights:?} have an empty or absurd kernel"
        ));
    }
    if let Some(stated) = node.attrs().ints("kernel_shape")?
        && (stated.len() != kernel.len() || stated.iter().zip(kernel).any(|(&s, &k)| s != k as i64))
    {
        return malformed(format!(
            "kernel_shape {} contradicts its weights of shape {weights:?}",
            shown(&format!("{stated:?}"))
        ));
    }
    Ok(kernel.to_vec())
}

/// Checks ranks, groups and bias; returns the groups and the bias.
fn operands(b: &Binder, node: &FileNode, x: &[usize], w: &[usize]) -> Outcome<usize> {
    if !(3..=5).contains(&x.len()) {
        return unsupported(format!(
            "an input of shape {x:?}; it must have 1 to 3 spatial axes"
        ));
    }
    if w.len() != x.len() {
        return malformed(format!(
            "its weights of shape {w:?} do not fit its input of shape {x:?}"
        ));
    }
    elements(w, b.limits())?;
    let group = node.attrs().int_or("group", 1)?;
    match usize::try_from(group) {
        Ok(groups) if groups >= 1 => Ok(groups),
        _ => malformed(format!("it has {group} groups")),
    }
}

fn checked_bias(b: &Binder, bias: Option<Slot>, channels: usize) -> Outcome<Option<Slot>> {
    let Some(bias) = bias else {
        return Ok(None);
    };
    if b.shape(bias)? != [channels] {
        return malformed(format!(
            "its bias has shape {:?}, which must be [{channels}]",
            b.shape(bias)?
        ));
    }
    Ok(Some(bias))
}

pub(super) fn conv(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let (x, w) = (b.input(node, 0)?, b.input(node, 1)?);
    conv_of(b, node, [x, w], node.optional(2), node.output()?)
}

pub(super) fn conv_of(
    b: &mut Binder,
    node: &FileNode,
    [x, w]: [Slot; 2],
    bias: Option<Slot>,
    output: Slot,
) -> Outcome<()> {
    let (xs, ws) = (b.shape(x)?.to_vec(), b.shape(w)?.to_vec());
    let groups = operands(b, node, &xs, &ws)?;
    let channels = ws[0];
    if ws[1].checked_mul(groups) != Some(xs[1]) || channels % groups != 0 {
        return malformed(format!(
            "its weights of shape {ws:?} in {groups} groups do not fit its input of shape {xs:?}"
        ));
    }
    let (pool, out) = windows(node, &xs[2..], kernel_of(node, &ws)?, false)?;
    let mut inputs = vec![x, w];
    inputs.extend(checked_bias(b, bias, channels)?);
    let shape = [&[xs[0], channels], &out[..]].concat();
    let Pool {
        kernel,
        strides,
        pads_before,
        pads_after,
        dilations,
    } = pool;
    let conv = Conv {
        kernel,
        strides,
        pads_before,
        pads_after,
        dilations,
        groups,
    };
    b.emit(node, Op::Conv(conv), &inputs, shape, output)
}

pub(super) fn conv_transpose(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let (x, w) = (b.input(node, 0)?, b.input(node, 1)?);
    let (xs, ws) = (b.shape(x)?.to_vec(), b.shape(w)?.to_vec());
    let groups = operands(b, node, &xs, &ws)?;
    let channels = ws[1].checked_mul(groups);
    let Some(channels) = channels.filter(|_| ws[0] == xs[1] && xs[1] % groups == 0) else {
        return malformed(format!(
            "its weights of shape {ws:?} in {groups} groups do not fit its input of shape {xs:?}"
        ));
    };
    let spatial = &xs[2..];
    let count = spatial.len();
    let kernel = kernel_of(node, &ws)?;
    let strides = extents(node, "strides", count, 1, 1)?;
    let dilations = extents(node, "dilations", count, 1, 1)?;
    let extra = extents(node, "output_padding", count, 0, 0)?;
    let wanted = match node.attrs().ints("output_shape")? {
        // Some exporters list batch and channels too; ONNX Runtime takes the last entries.
        Some(list) if list.len() == count + 2 => Some(list[2..].to_vec()),
        Some(list) if list.len() == count => Some(list.to_vec()),
        Some(list) => {
            return malformed(format!(
                "output_shape has {} entries for {count} spatial axes",
                list.len()
            ));
        }
        None => None,
    };
    let auto = auto_pad(node)?;
    let (mut before, after) = match auto {
        AutoPad::Explicit => explicit_pads(node, count)?,
        _ => (vec![0; count], vec![0; count]),
    };
    let mut shape = vec![xs[0], channels];
    for axis in 0..count {
        let stride = strides[axis] as i128;
        let natural = stride * (spatial[axis] as i128 - 1)
            + extra[axis] as i128
            + reach(kernel[axis], dilations[axis]);
        let upper = auto == AutoPad::Same { upper: true };
        let target = match (&wanted, auto) {
            (Some(wanted), _) => Some(i128::from(wanted[axis])),
            (None, AutoPad::Same { .. }) => Some(spatial[axis] as i128 * stride),
            _ => None,
        };
        let out = match target {
            Some(out) if out > natural && wanted.is_none() => {
                // ONNX says input times stride; onnxruntime 1.32.0 stops at the natural extent.
                return unsupported(
                    "auto_pad SAME with strides beyond the kernel, on which runtimes disagree",
                );
            }
            Some(out) => {
                let total = usize::try_from((natural - out).max(0)).unwrap_or(usize::MAX);
                before[axis] = halves(total, upper).0;
                out
            }
            None => natural - before[axis] as i128 - after[axis] as i128,
        };
        match usize::try_from(out) {
            Ok(out) if out >= 1 => shape.push(out),
            _ => {
                return malformed(format!(
                    "its output would have {out} elements along axis {}",
                    axis + 2
                ));
            }
        }
    }
    let mut inputs = vec![x, w];
    inputs.extend(checked_bias(b, node.optional(2), channels)?);
    let op = ConvTranspose {
        kernel,
        strides,
        pads_before: before,
        dilations,
        groups,
    };
    b.emit(node, Op::ConvTranspose(op), &inputs, shape, node.output()?)
}

pub(super) fn max_pool(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    max_pool_of(b, node, x, node.output()?)
}

pub(super) fn max_pool_of(b: &mut Binder, node: &FileNode, x: Slot, output: Slot) -> Outcome<()> {
    let (pool, shape) = pool(b, node, x)?;
    b.emit(node, Op::MaxPool(pool), &[x], shape, output)
}

pub(super) fn average_pool(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    average_pool_of(b, node, x, false, node.output()?)
}

/// `whole`: where padding counts, every window counts whole, also one that `ceil_mode` lets reach beyond the
/// padding.
pub(super) fn average_pool_of(
    b: &mut Binder,
    node: &FileNode,
    x: Slot,
    whole: bool,
    output: Slot,
) -> Outcome<()> {
    let (mut pool, shape) = pool(b, node, x)?;
    let count_include_pad = node.attrs().flag("count_include_pad", false)?;
    if whole && count_include_pad {
        let spatial = &b.shape(x)?[2..];
        for (axis, &extent) in spatial.iter().enumerate() {
            let last = (shape[axis + 2] as i128 - 1) * pool.strides[axis] as i128;
            let end = last + reach(pool.kernel[axis], pool.dilations[axis]);
            let needed = end - extent as i128 - pool.pads_before[axis] as i128;
            let needed = usize::try_from(needed).unwrap_or(0);
            pool.pads_after[axis] = pool.pads_after[axis].max(needed);
        }
    }
    b.emit(
        node,
        Op::AveragePool {
            pool,
            count_include_pad,
        },
        &[x],
        shape,
        output,
    )
}

fn pool(b: &Binder, node: &FileNode, x: Slot) -> Outcome<(Pool, Vec<usize>)> {
    let xs = b.shape(x)?;
    if !(3..=5).contains(&xs.len()) {
        return unsupported(format!(
            "an input of shape {xs:?}; it must have 1 to 3 spatial axes"
        ));
    }
    let spatial = &xs[2..];
    if !node.attrs().has("kernel_shape") {
        return malformed("attribute 'kernel_shape' is missing");
    }
    let kernel = extents(node, "kernel_shape", spatial.len(), 1, 1)?;
    elements(&kernel, b.limits())?;
    let (pool, out) = windows(
        node,
        spatial,
        kernel,
        node.attrs().flag("ceil_mode", false)?,
    )?;
    let shape = [&xs[..2], &out[..]].concat();
    // Bounds the loop below.
    elements(&shape, b.limits())?;
    for axis in 0..spatial.len() {
        if !(0..out[axis]).all(|position| sees_data(&pool, axis, position, spatial[axis])) {
            return unsupported(format!(
                "along axis {} a window lies in the padding alone",
                axis + 2
            ));
        }
    }
    Ok((pool, shape))
}

/// Whether a window contains at least one element of the input along an axis.
fn sees_data(pool: &Pool, axis: usize, position: usize, extent: usize) -> bool {
    let start = position as i128 * pool.strides[axis] as i128 - pool.pads_before[axis] as i128;
    let step = pool.dilations[axis] as i128;
    let skipped = if start < 0 {
        (-start + step - 1) / step
    } else {
        0
    };
    skipped < pool.kernel[axis] as i128 && start + skipped * step < extent as i128
}

pub(super) fn global_max_pool(b: &mut Binder, node: &FileNode) -> Outcome<()> {
    let x = b.input(node, 0)?;
    let mut shape = b.shape(x)?.to_vec();
    if !(3..=5).contains(&shape.len()) {
        return unsupported(format!(
            "an input of shape {shape:?}; it must have 1 to 3 spatial axes"
        ));
    }
    let kernel = shape.split_off(2);
    let count = kernel.len();
    shape.extend(vec![1; count]);
    let pool = Pool {
        kernel,
        strides: vec![1; count],
        pads_before: vec![0; count],
        pads_after: vec![0; count],
        dilations: vec![1; count],
    };
    b.emit(node, Op::MaxPool(pool), &[x], shape, node.output()?)
}
