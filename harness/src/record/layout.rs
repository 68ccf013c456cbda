//! Bringing a dump's numbers into the model's order of axes.

use std::borrow::Cow;

use super::dump::Order;

/// What a dump's shape says of its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// The order of the model's file.
    File,
    /// The other one.
    Other,
    /// Either would do: the numbers decide nothing, somebody has to.
    Either,
    /// There is but one order.
    Only,
}

/// Extents with the channels moved: `(N, C, H, W)` to `(N, H, W, C)`, or back.
fn moved(shape: &[usize], from: Order) -> Vec<usize> {
    permutation(shape.len(), from)
        .iter()
        .map(|&axis| shape[axis])
        .collect()
}

/// Axes that bring `from` into the other order: output axis `i` is input axis `p[i]`.
fn permutation(rank: usize, from: Order) -> Vec<usize> {
    if rank < 3 {
        return (0..rank).collect();
    }
    match from {
        Order::Nchw => [0].into_iter().chain(2..rank).chain([1]).collect(),
        Order::Nhwc => [0, rank - 1].into_iter().chain(1..rank - 1).collect(),
    }
}

/// Extents that are not one.
fn squeezed(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&e| e != 1).collect()
}

/// Samples that a dump of `count` numbers holds, and what its shape says of its order.
///
/// # Errors
/// In words: the size does not fit, or the shape.
pub(crate) fn fit(
    dump: Option<&[usize]>,
    count: usize,
    file: &[usize],
    order: Order,
) -> Result<(usize, Says), String> {
    let len: usize = file.iter().product();
    if len == 0 || count == 0 || !count.is_multiple_of(len) {
        return Err(format!(
            "has {count} elements, and a sample of it is {file:?}, which is {len}"
        ));
    }
    let samples = count / len;
    let other = moved(file, order);
    let says = |dump: &[usize], shape: &[usize]| {
        let mut batch = shape.to_vec();
        if let Some(first) = batch.first_mut() {
            *first *= samples;
        }
        let mut stacked = vec![samples];
        stacked.extend(shape);
        let dump = squeezed(dump);
        dump == squeezed(&batch) || dump == squeezed(&stacked)
    };
    let only = {
        let channel = match order {
            Order::Nchw => 1,
            Order::Nhwc => file.len().saturating_sub(1),
        };
        let spatial = file
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(axis, _)| *axis != channel);
        let channels = file.get(channel).copied().unwrap_or(1);
        file.len() < 3 || channels == 1 || spatial.map(|(_, &e)| e).product::<usize>() == 1
    };
    let flat = |dump: &[usize]| squeezed(dump).len() <= 1 || squeezed(dump) == [samples, len];
    match dump {
        None => Ok((samples, if only { Says::Only } else { Says::Either })),
        Some(dump) => match (says(dump, file), says(dump, &other)) {
            (true, _) | (_, true) if only => Ok((samples, Says::Only)),
            (true, true) => Ok((samples, Says::Either)),
            (true, false) => Ok((samples, Says::File)),
            (false, true) => Ok((samples, Says::Other)),
            (false, false) if flat(dump) && only => Ok((samples, Says::Only)),
            (false, false) if flat(dump) => Ok((samples, Says::Either)),
            (false, false) => Err(format!(
                "has the shape {dump:?}, which is neither {file:?} nor {other:?}"
            )),
        },
    }
}

/// Numbers whose samples of shape `file` are stored in the other order, in the file's.
pub(crate) fn to_file_order(values: &[f64], file: &[usize], order: Order) -> Vec<f64> {
    let stored = moved(file, order);
    let back = match order {
        Order::Nchw => Order::Nhwc,
        Order::Nhwc => Order::Nchw,
    };
    transposed(values, &stored, &permutation(file.len(), back))
}

/// Every sample's axes permuted: output axis `i` is input axis `perm[i]`.
pub(crate) fn transposed(values: &[f64], shape: &[usize], perm: &[usize]) -> Vec<f64> {
    let rank = shape.len();
    let mut steps = vec![1; rank];
    for axis in (0..rank.saturating_sub(1)).rev() {
        steps[axis] = steps[axis + 1] * shape[axis + 1];
    }
    let len: usize = shape.iter().product();
    let mut out = Vec::with_capacity(values.len());
    let mut index = vec![0; rank];
    for sample in values.chunks_exact(len.max(1)) {
        index.fill(0);
        for _ in 0..len {
            let at: usize = index
                .iter()
                .zip(perm)
                .map(|(&i, &axis)| i * steps[axis])
                .sum();
            out.push(sample[at]);
            for i in (0..rank).rev() {
                index[i] += 1;
                if index[i] < shape[perm[i]] {
                    break;
                }
                index[i] = 0;
            }
        }
    }
    out
}

/// The axes of a file's tensor in the graph's tensor: file axis `i` is graph axis `axes[i]`; axes that the
/// file leaves out are ones, and come first.
fn all_axes(graph: &[usize], axes: &[usize]) -> Vec<usize> {
    let missing = (0..graph.len()).filter(|axis| !axes.contains(axis));
    missing.chain(axes.iter().copied()).collect()
}

/// A tensor's extents in the file's order of axes.
pub(crate) fn file_shape(graph: &[usize], axes: Option<&[usize]>) -> Vec<usize> {
    match axes {
        None => graph.to_vec(),
        Some(axes) => axes.iter().map(|&axis| graph[axis]).collect(),
    }
}

/// Samples in the file's order of axes, in the graph's.
pub(crate) fn to_graph_order<'a>(
    values: &'a [f64],
    graph: &[usize],
    axes: Option<&[usize]>,
) -> Cow<'a, [f64]> {
    let Some(axes) = axes else {
        return Cow::Borrowed(values);
    };
    let axes = all_axes(graph, axes);
    let file: Vec<usize> = axes.iter().map(|&axis| graph[axis]).collect();
    let mut perm = vec![0; axes.len()];
    for (file, &own) in axes.iter().enumerate() {
        perm[own] = file;
    }
    Cow::Owned(transposed(values, &file, &perm))
}

/// Samples in the graph's order of axes, in the file's.
pub(crate) fn from_graph_order(
    values: Vec<f64>,
    graph: &[usize],
    axes: Option<&[usize]>,
) -> Vec<f64> {
    match axes {
        None => values,
        Some(axes) => transposed(&values, graph, &all_axes(graph, axes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(dump: &[usize], file: &[usize]) -> Result<(usize, Says), String> {
        fit(Some(dump), dump.iter().product(), file, Order::Nchw)
    }

    #[test]
    fn a_shape_tells_the_order_where_it_can() {
        let file = [1, 3, 4, 5];
        assert_eq!(says(&[1, 3, 4, 5], &file), Ok((1, Says::File)));
        assert_eq!(says(&[3, 4, 5], &file), Ok((1, Says::File)));
        assert_eq!(says(&[2, 4, 5, 3], &file), Ok((2, Says::Other)));
        assert_eq!(says(&[2, 1, 4, 5, 3], &file), Ok((2, Says::Other)));
        assert_eq!(says(&[60], &file), Ok((1, Says::Either)));
        assert_eq!(fit(None, 60, &file, Order::Nchw), Ok((1, Says::Either)));
        assert!(says(&[1, 5, 4, 3], &file).is_err());
        assert!(says(&[59], &file).is_err());
        assert!(fit(None, 0, &file, Order::Nchw).is_err());
        assert!(fit(None, 5, &[1, 0], Order::Nchw).is_err());
    }

    #[test]
    fn squares_tell_nothing_and_vectors_have_one_order() {
        assert_eq!(says(&[1, 4, 4, 4], &[1, 4, 4, 4]), Ok((1, Says::Either)));
        assert_eq!(says(&[1, 7, 1, 1], &[1, 7, 1, 1]), Ok((1, Says::Only)));
        assert_eq!(says(&[1, 1, 1, 7], &[1, 7, 1, 1]), Ok((1, Says::Only)));
        assert_eq!(says(&[2, 1, 8, 8], &[1, 1, 8, 8]), Ok((2, Says::Only)));
        assert_eq!(says(&[6], &[1, 3]), Ok((2, Says::Only)));
        assert_eq!(
            fit(Some(&[1, 4, 5, 3]), 60, &[1, 4, 5, 3], Order::Nhwc),
            Ok((1, Says::File))
        );
        assert_eq!(
            fit(Some(&[1, 3, 4, 5]), 60, &[1, 4, 5, 3], Order::Nhwc),
            Ok((1, Says::Other))
        );
    }

    #[test]
    fn channels_move_and_move_back() {
        let first: Vec<f64> = (0..48).map(f64::from).collect();
        // Two samples of (1, 2, 3, 4).
        let last = transposed(&first, &[1, 2, 3, 4], &[0, 2, 3, 1]);
        assert_eq!(last[..4], [0.0, 12.0, 1.0, 13.0]);
        assert_eq!(to_file_order(&last, &[1, 2, 3, 4], Order::Nchw), first);
        assert_eq!(to_file_order(&first, &[1, 3, 4, 2], Order::Nhwc), last);
        let axes = [0, 2, 3, 1];
        assert_eq!(
            from_graph_order(first.clone(), &[1, 2, 3, 4], Some(&axes)),
            last
        );
        assert_eq!(*to_graph_order(&last, &[1, 2, 3, 4], Some(&axes)), first);
        // An axis that the file leaves out: (H, W, C) for (1, C, H, W).
        assert_eq!(file_shape(&[1, 2, 3, 4], Some(&[2, 3, 1])), [3, 4, 2]);
        assert_eq!(
            *to_graph_order(&last, &[1, 2, 3, 4], Some(&[2, 3, 1])),
            first
        );
    }
}
