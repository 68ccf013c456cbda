//! `SVP_NNN`'s calibration parameters, protobuf text or binary: `calibration_param.txt` of the ATC tool and
//! `quant_param_record.txt` of AMCT (`HiSilicon`'s ATC tool guide for `SVP_NNN`, 00B02, `--gfpq_param_file`).
//!
//! The scale multiplies: `q = round(x * scale) + offset` (the guide's example, scale 12.75 and offset -77 at S8, is then
//! exactly [-4, 16]). The rounding is not documented.

use prost::Message;

use super::scheme::{self, Codes, Scheme};
use super::tree::Tree;
use super::{Format, Parsed, Place, Role, prototext};
use crate::ZeroPointAdded;

/// The guide's `DataType`, by number.
const TYPES: [&str; 10] = [
    "S4", "U4", "S8", "U8", "S16", "U16", "F16", "S32", "U32", "F32",
];

/// Number of `S8`, the default.
const S8: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct CalibrationParam {
    #[prost(uint32, optional, tag = "1")]
    version: Option<u32>,
    #[prost(message, repeated, tag = "2")]
    layer: Vec<LayerParam>,
}

#[derive(Clone, PartialEq, Message)]
struct LayerParam {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(int32, optional, tag = "2")]
    calc_data_type: Option<i32>,
    #[prost(message, optional, tag = "3")]
    quant_param: Option<QuantParam>,
}

#[derive(Clone, PartialEq, Message)]
struct QuantParam {
    #[prost(message, repeated, tag = "1")]
    input: Vec<FactorParam>,
    #[prost(message, optional, tag = "2")]
    weight: Option<FactorParam>,
}

#[derive(Clone, PartialEq, Message)]
struct FactorParam {
    #[prost(int32, optional, tag = "1")]
    data_type: Option<i32>,
    #[prost(float, repeated, packed = "false", tag = "2")]
    scale: Vec<f32>,
    #[prost(float, repeated, packed = "false", tag = "3")]
    offset: Vec<f32>,
}

/// Whether a text has the fields of these files.
pub(super) fn is_text(text: &str) -> bool {
    text.contains("quant_param") || text.contains("calc_data_type")
}

/// Reads the text form.
pub(super) fn text(text: &str) -> Result<Parsed, String> {
    let tree = prototext::tree(text)?;
    let mut param = CalibrationParam::default();
    for (name, value) in tree.map().unwrap_or_default() {
        match name.as_str() {
            "version" => {}
            "layer" => param.layer.push(layer(value)?),
            other => return Err(format!("a field '{other}'")),
        }
    }
    entries(&param)
}

/// Reads the binary form.
pub(super) fn binary(bytes: &[u8]) -> Result<Parsed, String> {
    let param = CalibrationParam::decode(bytes)
        .map_err(|e| format!("neither text nor SVP_NNN's binary calibration parameters ({e})"))?;
    entries(&param)
}

fn layer(tree: &Tree) -> Result<LayerParam, String> {
    let name = tree.need("name", "text", |t| t.text().map(str::to_owned))?;
    let mut layer = LayerParam {
        name: Some(name.clone()),
        ..LayerParam::default()
    };
    let located = |what: String| format!("layer '{name}': {what}");
    if let Some(kind) = tree.get("calc_data_type") {
        layer.calc_data_type = Some(data_type(kind).map_err(located)?);
    }
    let Some(stated) = tree.get("quant_param") else {
        return Ok(layer);
    };
    let mut quant = QuantParam::default();
    for (field, value) in stated.map().unwrap_or_default() {
        match field.as_str() {
            "input" => quant.input.push(factor(value).map_err(located)?),
            "weight" if quant.weight.is_none() => {
                quant.weight = Some(factor(value).map_err(located)?);
            }
            "weight" => return Err(located("two 'weight'".into())),
            other => return Err(located(format!("a field '{other}'"))),
        }
    }
    layer.quant_param = Some(quant);
    Ok(layer)
}

fn factor(tree: &Tree) -> Result<FactorParam, String> {
    let mut factor = FactorParam::default();
    for (field, value) in tree.map().unwrap_or_default() {
        let number = || {
            value
                .number()
                .ok_or_else(|| format!("'{field}' is not a number"))
        };
        match field.as_str() {
            "data_type" => factor.data_type = Some(data_type(value)?),
            "scale" => factor.scale.push(number()? as f32),
            "offset" => factor.offset.push(number()? as f32),
            "params" => {}
            other => return Err(format!("a field '{other}'")),
        }
    }
    Ok(factor)
}

fn data_type(tree: &Tree) -> Result<i32, String> {
    let found = match tree {
        Tree::Text(name) => TYPES.iter().position(|t| t == name),
        Tree::Number(n) => (0..TYPES.len()).find(|&i| i as f64 == *n),
        _ => None,
    };
    found
        .map(|i| i as i32)
        .ok_or_else(|| format!("a data type other than {}", TYPES.join(", ")))
}

fn entries(param: &CalibrationParam) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::SvpNnn);
    for layer in &param.layer {
        let name = layer.name.clone().unwrap_or_default();
        if name.is_empty() {
            return Err("a layer without a name".into());
        }
        let located = |what: String| format!("layer '{name}': {what}");
        let Some(quant) = &layer.quant_param else {
            continue;
        };
        for (index, input) in quant.input.iter().enumerate() {
            let place = Place::Input {
                node: name.clone(),
                index,
                of: quant.input.len(),
            };
            parsed.push(place, scheme(input).map_err(located)?, Role::Activation);
        }
        if let Some(weight) = &quant.weight {
            parsed.push(
                Place::Weights(name.clone()),
                scheme(weight).map_err(located)?,
                Role::Parameter,
            );
        }
    }
    parsed
        .notes
        .push("SVP_NNN's rounding is not documented: half to even is taken".into());
    Ok(parsed)
}

fn scheme(factor: &FactorParam) -> Result<Scheme, String> {
    let kind = factor.data_type.unwrap_or(S8);
    let name = usize::try_from(kind)
        .ok()
        .and_then(|kind| TYPES.get(kind))
        .ok_or_else(|| format!("a data type of number {kind}"))?;
    let (letter, width) = name.split_at(1);
    let bits = width.parse().map_err(|_| format!("a data type {name}"))?;
    if letter == "F" {
        return Ok(Scheme::Float(bits));
    }
    let codes = if letter == "S" {
        Codes::signed(bits)
    } else {
        Codes::unsigned(bits)
    };
    let doubles = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| f64::from(v)).collect() };
    let offsets = match doubles(&factor.offset) {
        none if none.is_empty() => vec![0.0],
        offsets => offsets,
    };
    scheme::multiplied(
        &doubles(&factor.scale),
        &offsets,
        codes,
        ZeroPointAdded::AfterRounding,
    )
    .map(Scheme::Affine)
}
