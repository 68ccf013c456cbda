//! Contradictions of `[requantize]` and `[fully-connected]`.

use super::Check;
use crate::view::{has_derivation, has_shifts};
use crate::{
    ClampOrder, Derivation, Division, Grid, LeftShift, Multiplier, Requantize, Rounding, Shift,
    Spec, Step, ZeroPointPosition,
};

impl Check<'_> {
    pub(super) fn requantize(&mut self, section: &str, rule: &Requantize, spec: &Spec) {
        let at = |field: &str| format!("{section}.{field}");
        let format = self.multiplier(&at("multiplier"), rule, spec);
        let useless = format!("has no effect on a multiplier of format '{format}'; leave it out");
        let plain = rule.derivation == Derivation::default();
        self.require(
            plain || has_derivation(rule.multiplier),
            at("derivation"),
            &*useless,
        );
        let plain = rule.left_shift == LeftShift::default();
        self.require(
            plain || has_shifts(rule.multiplier),
            at("left-shift"),
            &*useless,
        );
        let shifts = has_shifts(rule.multiplier);
        let clamp = "a clamp before rounding needs a float multiplier, not integer shifts";
        self.require(
            !shifts || rule.clamp == ClampOrder::AfterRounding,
            at("clamp"),
            clamp,
        );
        let inside =
            "a zero point inside the rounding needs a float multiplier, not integer shifts";
        let holds = !shifts || rule.zero_point != ZeroPointPosition::InsideRounding;
        self.require(holds, at("zero-point"), inside);
        let reason = "belongs to [fully-connected]; here [bias] says it";
        let holds = rule.bias.is_none() || section == "fully-connected";
        self.require(holds, at("bias"), reason);
        self.steps(&at("steps"), rule.multiplier, &rule.steps);
        if let Some(tail) = &rule.tail {
            let reason = "channels that vectors leave over need integer shifts";
            self.require(shifts, at("tail"), reason);
            self.require(tail.block >= 1, at("tail.block"), "is 0");
            self.steps(&at("tail.steps"), rule.multiplier, &tail.steps);
        }
    }

    /// Checks a multiplier; returns the name of its format.
    fn multiplier(&mut self, path: &str, rule: &Requantize, spec: &Spec) -> String {
        let (format, fields): (&str, &[&str]) = match rule.multiplier {
            Multiplier::Exact => ("exact", &[]),
            Multiplier::F32 => ("f32", &[]),
            Multiplier::F32TwoSteps { .. } => ("f32-two-steps", &["division"]),
            Multiplier::F64 => ("f64", &[]),
            Multiplier::Fixed { .. } => ("fixed", &["bits", "rounding"]),
            Multiplier::FixedAbsolute { .. } => ("fixed-absolute", &["bits", "rounding"]),
            Multiplier::Q15Reduced => ("q15-reduced", &[]),
            Multiplier::Best { .. } => ("best", &["bits"]),
            Multiplier::F32Reduced { .. } => ("f32-reduced", &["bits", "rounding"]),
            Multiplier::F64Reduced { .. } => ("f64-reduced", &["bits", "rounding"]),
            Multiplier::PowerOfTwo => ("power-of-two", &[]),
            Multiplier::FakeQuantize { .. } => ("fake-quantize", &["fold"]),
        };
        // serde lets unknown fields of a tagged enum's plain variants pass.
        let stray = self
            .tree
            .keys_of(path)
            .find(|key| *key != "format" && !fields.contains(key));
        if let Some(key) = stray.map(str::to_owned) {
            let list = [&["format"], fields].concat().join(", ");
            let reason = format!("unknown field '{key}' of format '{format}'; expected {list}");
            self.require(false, format!("{path}.{key}"), reason);
        }
        match rule.multiplier {
            Multiplier::Fixed { bits, .. }
            | Multiplier::FixedAbsolute { bits, .. }
            | Multiplier::F32Reduced { bits, .. }
            | Multiplier::F64Reduced { bits, .. } => {
                let reason = format!("{bits} is outside 8 to 32");
                self.require((8..=32).contains(&bits), format!("{path}.bits"), reason);
            }
            Multiplier::F32TwoSteps { division } => {
                let float = matches!(division, Division::DivideF32 | Division::ReciprocalF32);
                let reason = "must be 'divide-f32' or 'reciprocal-f32'";
                self.require(float, format!("{path}.division"), reason);
            }
            Multiplier::PowerOfTwo => {
                for (name, grid) in [
                    ("activations", spec.activations.quantizer),
                    ("weights", spec.weights.quantizer),
                ] {
                    let holds = matches!(grid, Grid::PowerOfTwo | Grid::Model);
                    let reason = format!(
                        "'power-of-two' needs {name}.quantizer = 'power-of-two' or 'model'"
                    );
                    self.require(holds, path, reason);
                }
            }
            Multiplier::Best { bits } => {
                let reason = format!("{bits} is neither 7 nor 31");
                self.require(matches!(bits, 7 | 31), format!("{path}.bits"), reason);
            }
            Multiplier::FakeQuantize { .. } => {
                let inside = rule.zero_point == ZeroPointPosition::InsideRounding;
                let reason = "'fake-quantize' needs zero-point = 'inside-rounding'";
                self.require(inside, path, reason);
                let single = matches!(
                    rule.derivation,
                    Derivation::F32 | Derivation::F32SignedRange
                );
                let reason = "'fake-quantize' needs derivation = 'f32' or 'f32-signed-range'";
                self.require(single, path, reason);
            }
            Multiplier::Exact | Multiplier::F32 | Multiplier::F64 | Multiplier::Q15Reduced => {}
        }
        format.to_owned()
    }

    fn steps(&mut self, path: &str, multiplier: Multiplier, steps: &[Step]) {
        if !has_shifts(multiplier) {
            let plain = matches!(
                steps,
                [Step {
                    shift: Shift::Rest,
                    saturate: None,
                    ..
                }]
            );
            let reason = "a float or exact multiplier has one step with a rounding only: [{ rounding = \"...\" }]";
            self.require(plain, path, reason);
            return;
        }
        self.require((1..=4).contains(&steps.len()), path, "one to four steps");
        let mut total = 0_u32;
        for (index, step) in steps.iter().enumerate() {
            let last = index + 1 == steps.len();
            match step.shift {
                Shift::By(bits) => {
                    let reason = format!("{bits} is outside 1 to 62");
                    self.require(
                        (1..=62).contains(&bits),
                        format!("{path}[{index}].shift"),
                        reason,
                    );
                    total = total.saturating_add(bits);
                }
                Shift::Rest => {
                    let reason = "only the last step shifts by the rest; give the others a number";
                    self.require(last, format!("{path}[{index}].shift"), reason);
                }
            }
            if let Some(bits) = step.saturate {
                let reason = format!("{bits} is outside 8 to 64");
                self.require(
                    (8..=64).contains(&bits),
                    format!("{path}[{index}].saturate"),
                    reason,
                );
            }
        }
        self.require(total <= 62, path, "the shifts add up to more than 62 bits");
        let rest = steps.last().is_some_and(|step| step.shift == Shift::Rest);
        match multiplier {
            Multiplier::FixedAbsolute { bits, .. } => {
                let reason = format!(
                    "the shifts of 'fixed-absolute' must add up to its {bits} bits, or end with the rest"
                );
                self.require(
                    if rest { total < bits } else { total == bits },
                    path,
                    reason,
                );
            }
            Multiplier::Q15Reduced => {
                let one = matches!(
                    steps,
                    [Step {
                        shift: Shift::Rest,
                        rounding: Rounding::HalfUp,
                        saturate: None
                    }]
                );
                self.require(
                    one,
                    path,
                    "'q15-reduced' has one half-up step: [{ rounding = \"half-up\" }]",
                );
            }
            _ => {
                let reason =
                    "the last step must shift by the rest: the exponent of the multiplier varies";
                self.require(rest, path, reason);
            }
        }
    }
}
