//! Vitis AI's `quant_info.json`: sections `param`, `output`, `input` of `name -> [[bits, fix_point]]`,
//! `real = q * 2^-fix_point` (`vai_q_pytorch` `nndct_shared/quantization/base_quantizer.py`).

use super::scheme::{self, Arithmetic, Codes, Scheme};
use super::tree::Tree;
use super::{Format, Parsed, Place, Role};

/// Reads a file.
pub(super) fn quant_info(tree: &Tree) -> Result<Parsed, String> {
    let mut parsed = Parsed::new(Format::VitisAi);
    // Activations round half up, everything else half away (vai_q_pytorch doc/Quant_Config.md).
    for (section, role, arithmetic) in [
        ("param", Role::Parameter, Arithmetic::HalfAway),
        ("output", Role::Activation, Arithmetic::HalfUp),
        ("input", Role::Activation, Arithmetic::HalfAway),
    ] {
        let entries = tree
            .get(section)
            .and_then(Tree::map)
            .ok_or_else(|| format!("'{section}' is not an object"))?;
        for (name, value) in entries {
            let place = Place::Tensor(name.clone());
            // The input's tensor stands under `output` too, in some files.
            if parsed.entries.iter().any(|entry| entry.place == place) {
                continue;
            }
            let scheme =
                position(value, arithmetic).map_err(|what| format!("tensor '{name}': {what}"))?;
            parsed.push(place, scheme, role);
        }
    }
    Ok(parsed)
}

fn position(value: &Tree, arithmetic: Arithmetic) -> Result<Scheme, String> {
    let [pair] = value.list().unwrap_or_default() else {
        return Err("other than one pair of width and position".into());
    };
    let numbers = pair.numbers().unwrap_or_default();
    let [bits, position] = numbers[..] else {
        return Err("not a pair of width and position".into());
    };
    if position.fract() != 0.0 || position.abs() > 100.0 {
        return Err(format!("a position of {position}"));
    }
    let codes = Codes::signed(scheme::bits(bits)?);
    scheme::affine(&[libm::exp2(-position)], &[0.0], codes, arithmetic).map(Scheme::Affine)
}
