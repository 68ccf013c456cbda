//! The JSON files that `MQBench` writes beside a float model (`mqbench/deploy/*.py`).

use super::scheme::{self, Arithmetic, Codes, Scheme};
use super::tree::Tree;
use super::{Backend, Format, Parsed, Place, Role, WeightRule};

/// Codes of the symmetric backends, `[-127, 127]`, whose files state `127 * scale`.
const SYMMETRIC: Codes = Codes {
    bits: 8,
    signed: true,
    narrow: true,
};

/// Reads a file that one of its keys names as `MQBench`'s; `None` where none does.
pub(super) fn json(tree: &Tree) -> Option<Result<Parsed, String>> {
    let table = |section: &str, key: &str| tree.get(section)?.get(key)?.map();
    if tree.get("tensorrt").is_some() {
        return Some(match table("tensorrt", "blob_range") {
            Some(ranges) => tensorrt(ranges),
            None => Err("'tensorrt' without 'blob_range'".into()),
        });
    }
    if tree.get("nnie").is_some() {
        return Some(match table("nnie", "gfpq_param_dict") {
            Some(clips) => nnie(clips),
            None => Err("'nnie' without 'gfpq_param_dict'".into()),
        });
    }
    if let Some(entries) = tree.get("ppl").and_then(Tree::map) {
        return Some(ppl(entries));
    }
    if let Some(entries) = tree.get("vitis").and_then(Tree::map) {
        return Some(vitis(entries));
    }
    if tree.get("sophgo_tpu").is_some() {
        return Some(Err(
            "MQBench's file for the backend Sophgo_TPU, whose names are not those of the model, is not read".into(),
        ));
    }
    let activations = tree.get("activation_encodings")?.map()?;
    // AIMET's entries of the same shape state scale and offset.
    let plain = |(_, value): &(String, Tree)| {
        value.list().is_some_and(|items| {
            items.iter().all(|i| {
                i.get("bitwidth").is_some() && i.get("scale").is_none() && i.get("dtype").is_none()
            })
        })
    };
    (!activations.is_empty() && activations.iter().all(plain)).then(|| snpe(activations))
}

fn each(
    parsed: &mut Parsed,
    entries: &[(String, Tree)],
    scheme: impl Fn(&Tree) -> Result<Scheme, String>,
    role: Role,
) -> Result<(), String> {
    for (name, value) in entries {
        let scheme = scheme(value).map_err(|what| format!("tensor '{name}': {what}"))?;
        parsed.push(Place::Tensor(name.clone()), scheme, role);
    }
    Ok(())
}

fn tensorrt(ranges: &[(String, Tree)]) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::MqBench(Backend::TensorRt));
    parsed.weights = WeightRule::Symmetric { per_channel: true };
    let scheme = |value: &Tree| {
        let amax = value.number().ok_or("not a number")?;
        scheme::symmetric(amax, SYMMETRIC, Arithmetic::Reciprocal).map(Scheme::Affine)
    };
    each(&mut parsed, ranges, scheme, Role::Activation)?;
    Ok(parsed)
}

/// One clip value an activation that the node reads. Upsampling has a second entry for the permutation that NNIE adds.
fn nnie(clips: &[(String, Tree)]) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::MqBench(Backend::Nnie));
    parsed.weights = WeightRule::Gfpq;
    for (node, value) in clips {
        let values = value
            .numbers()
            .ok_or_else(|| format!("node '{node}': not a list of numbers"))?;
        if node.contains("_permute_")
            && clips
                .iter()
                .any(|(n, _)| node.starts_with(&format!("{n}_permute_")))
        {
            continue;
        }
        for (index, &max) in values.iter().enumerate() {
            if !scheme::positive(max) {
                return Err(format!(
                    "node '{node}': a clip value of {max}, not a positive number"
                ));
            }
            let place = Place::Input {
                node: node.clone(),
                index,
                of: values.len(),
            };
            parsed.push(place, Scheme::Gfpq { max: max as f32 }, Role::Activation);
        }
    }
    Ok(parsed)
}

/// Unsigned codes of `bitwidth` bits over `[min, max]`. A scheme of 255 levels is written as 7 bits
/// (`int(log2(qmax - qmin + 1))`): then the symmetric range tells.
fn snpe(activations: &[(String, Tree)]) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::MqBench(Backend::Snpe));
    parsed.weights = WeightRule::Asymmetric { per_channel: false };
    let scheme = |value: &Tree| {
        let [item] = value.list().unwrap_or_default() else {
            return Err("other than one encoding".to_string());
        };
        let bits = scheme::bits(item.need("bitwidth", "a number", Tree::number)?)?;
        let min = item.need("min", "a number", Tree::number)?;
        let max = item.need("max", "a number", Tree::number)?;
        let affine = if min == -max && max > 0.0 && bits < 32 {
            scheme::symmetric(max, Codes::narrow(bits + 1), Arithmetic::Reciprocal)
        } else {
            scheme::asymmetric(min, max, bits, Arithmetic::Reciprocal)
        };
        affine.map(Scheme::Affine)
    };
    each(&mut parsed, activations, scheme, Role::Activation)?;
    Ok(parsed)
}

/// `real = (q - zero_point) * step`; the smallest code follows from `min`.
fn ppl(entries: &[(String, Tree)]) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::MqBench(Backend::Ppl));
    let scheme = |value: &Tree| {
        let bits = scheme::bits(value.need("bit", "a number", Tree::number)?)?;
        let numbers = |key| value.need(key, "numbers", Tree::numbers);
        let (steps, zeros, mins) = (numbers("step")?, numbers("zero_point")?, numbers("min")?);
        let first = [steps.first(), zeros.first(), mins.first()];
        let [Some(step), Some(zero), Some(min)] = first else {
            return Err("no step".to_string());
        };
        let smallest = (min / step).round() + zero;
        let codes = match smallest {
            0.0 => Codes::unsigned(bits),
            s if s < 0.0 && -s == (1u64 << (bits - 1)) as f64 => Codes::signed(bits),
            s if s < 0.0 && -s == ((1u64 << bits) - 1) as f64 => Codes::narrow(bits + 1),
            s => return Err(format!("codes from {s} on of {bits} bits")),
        };
        scheme::affine(&steps, &zeros, codes, Arithmetic::Reciprocal).map(Scheme::Affine)
    };
    each(&mut parsed, entries, scheme, Role::Either)?;
    Ok(parsed)
}

/// Power-of-two scales, `[-128, 127]`; weights and biases too.
fn vitis(entries: &[(String, Tree)]) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::MqBench(Backend::Vitis));
    let scheme = |value: &Tree| {
        let scale = value.need("scale", "a number", Tree::number)?;
        let power = scheme::positive(scale) && libm::exp2(libm::round(libm::log2(scale))) == scale;
        if !power {
            return Err(format!("a scale of {scale}, not a power of two"));
        }
        scheme::affine(&[scale], &[0.0], Codes::signed(8), Arithmetic::MqBenchVitis)
            .map(Scheme::Affine)
    };
    each(&mut parsed, entries, scheme, Role::Either)?;
    Ok(parsed)
}

/// Whether every value is a range or a bias scale.
pub(super) fn is_stpu(tree: &Tree) -> bool {
    let fits =
        |(_, value): &(String, Tree)| value.get("max").is_some() || value.get("alpha").is_some();
    tree.map()
        .is_some_and(|entries| !entries.is_empty() && entries.iter().all(fits))
}

/// `min`, `max` = -127 and 127 steps; biases (`alpha` = input scale times weight scale) are integers of 32 bits there.
pub(super) fn stpu(tree: &Tree) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::MqBench(Backend::Stpu));
    let mut biases = 0;
    for (name, value) in tree.map().unwrap_or_default() {
        if value.get("alpha").is_some() {
            biases += 1;
            continue;
        }
        let range = || {
            let one = |t: &Tree| t.numbers().filter(|v| v.len() == 1).map(|v| v[0]);
            let max = value.need("max", "a number", one)?;
            let min = value.need("min", "a number", one)?;
            if min != -max {
                return Err(format!(
                    "a range from {min} to {max}, which is not symmetric"
                ));
            }
            scheme::symmetric(max, SYMMETRIC, Arithmetic::Reciprocal)
        };
        let affine = range().map_err(|what| format!("tensor '{name}': {what}"))?;
        let (place, role) = match name.strip_suffix("_weights") {
            Some(node) => (Place::Weights(node.to_owned()), Role::Parameter),
            None => (Place::Tensor(name.clone()), Role::Activation),
        };
        // A convolution's output has its ReLU's entry (`merge_relu_layer`).
        parsed.push_maybe(place, Scheme::Affine(affine), role);
    }
    parsed.notes.push(
        "MQBench's STPU file rewrites ranges for the chip (inputs of a concatenation take its output's): it is not the \
         fake-quant of the training there"
            .into(),
    );
    if biases > 0 {
        parsed.notes.push(format!(
            "{biases} biases stay real numbers: MQBench's fake-quant does not round them, the chip stores them at \
             input scale times weight scale"
        ));
    }
    Ok(parsed)
}
