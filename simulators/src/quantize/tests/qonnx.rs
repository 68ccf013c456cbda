//! `qonnx_vectors.json`: outputs of qonnx's executor on one-node models, made by `qonnx_vectors.py`.

use align_check_graph::{
    Affine, Minifloat, PerChannel, Quantizer, Rounding, Thresholds, Trunc, TruncKind,
};
use serde_json::Value;

use crate::quantize::{codes, evaluate, grid};

/// One recorded node.
struct Case(Value);

impl Case {
    fn integer(&self, key: &str) -> i64 {
        self.0[key]
            .as_i64()
            .unwrap_or_else(|| panic!("{key} of {}", self.0["op"]))
    }

    fn flag(&self, key: &str) -> bool {
        self.integer(key) != 0
    }

    fn reals(&self, key: &str) -> Vec<f32> {
        let bits = |v: &Value| f32::from_bits(v.as_u64().unwrap() as u32);
        self.0[key].as_array().unwrap().iter().map(bits).collect()
    }

    /// One entry, or one for each channel.
    fn parameter(&self, key: &str) -> PerChannel<f32> {
        let values = self.reals(key);
        let axis = (values.len() > 1).then_some(1);
        PerChannel { values, axis }
    }

    fn rounding(&self) -> Rounding {
        match self.0["mode"].as_str().unwrap() {
            "ROUND" => Rounding::HalfEven,
            "HALF_UP" => Rounding::HalfAway,
            "HALF_DOWN" => Rounding::HalfTowardZero,
            "FLOOR" => Rounding::Floor,
            "CEIL" => Rounding::Ceil,
            "UP" => Rounding::AwayFromZero,
            "DOWN" => Rounding::TowardZero,
            other => panic!("{other}"),
        }
    }

    fn quantizer(&self) -> Quantizer {
        match self.0["op"].as_str().unwrap() {
            "Quant" => Quantizer::Affine(Affine {
                scale: self.parameter("scale"),
                zero_point: self.parameter("zero_point"),
                bits: self.integer("bits") as u32,
                signed: self.flag("signed"),
                narrow: self.flag("narrow"),
                rounding: self.rounding(),
                zero_point_added: align_check_graph::ZeroPointAdded::BeforeRounding,
                multiplier: None,
            }),
            "BipolarQuant" => Quantizer::Bipolar {
                scale: self.parameter("scale"),
            },
            "Trunc1" => self.trunc(TruncKind::V1 {
                shift: self.integer("shift") as i32,
            }),
            "Trunc2" => self.trunc(TruncKind::V2 {
                out_scale: self.parameter("out_scale"),
                out_bits: self.integer("out_bits") as u32,
                signed: self.flag("signed"),
                narrow: self.flag("narrow"),
            }),
            "FloatQuant" => Quantizer::Minifloat(Minifloat {
                scale: self.parameter("scale"),
                exponent_bits: self.integer("exponent_bits") as u32,
                mantissa_bits: self.integer("mantissa_bits") as u32,
                exponent_bias: self.reals("bias")[0],
                max_value: self.reals("max_value")[0],
                saturating: self.flag("saturation"),
                has_inf: self.flag("has_inf"),
                has_nan: self.flag("has_nan"),
                has_subnormal: true,
                rounding: self.rounding(),
            }),
            "MultiThreshold" => Quantizer::Thresholds(Thresholds {
                thresholds: self.reals("thresholds"),
                channels: self.integer("channels") as usize,
                steps: self.integer("steps") as usize,
                axis: 1,
                out_scale: self.reals("out_scale")[0],
                out_bias: self.reals("out_bias")[0],
            }),
            other => panic!("{other}"),
        }
    }

    fn trunc(&self, kind: TruncKind) -> Quantizer {
        Quantizer::Trunc(Trunc {
            scale: self.parameter("scale"),
            zero_point: self.parameter("zero_point"),
            rounding: self.rounding(),
            kind,
        })
    }

    fn shape(&self) -> Vec<usize> {
        let extent = |v: &Value| v.as_u64().unwrap() as usize;
        self.0["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(extent)
            .collect()
    }
}

fn cases() -> Vec<Case> {
    let file: Value = serde_json::from_str(include_str!("qonnx_vectors.json")).unwrap();
    file["cases"]
        .as_array()
        .unwrap()
        .iter()
        .cloned()
        .map(Case)
        .collect()
}

/// Same bits, where any NaN is one value (a NaN's payload is the processor's).
fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Every bit, signs of zeros included.
#[test]
fn outputs_equal_qonnx_bit_for_bit() {
    let mut elements = 0;
    for (index, case) in cases().iter().enumerate() {
        let (x, expected) = (case.reals("x"), case.reals("y"));
        let got = evaluate(&case.quantizer(), &x, &case.shape());
        assert_eq!(got.len(), expected.len());
        for ((x, got), expected) in x.iter().zip(&got).zip(&expected) {
            let op = &case.0["op"];
            assert!(
                same(*got, *expected),
                "case {index}, {op} {}: {x:e} became {got:e}, not {expected:e}",
                case.0["mode"],
            );
        }
        elements += got.len();
    }
    assert!(elements > 3000, "{elements}");
}

/// `(code - zero_point) * scale` is the output, up to the rounding of the executor's `f32`.
#[test]
fn codes_lie_on_the_grid_and_mean_the_output() {
    for (index, case) in cases().iter().enumerate() {
        let (quantizer, x, shape) = (case.quantizer(), case.reals("x"), case.shape());
        let (Some(codes), Some(grid)) = (codes(&quantizer, &x, &shape), grid(&quantizer)) else {
            assert!(grid(&quantizer).is_none() && codes(&quantizer, &x, &shape).is_none());
            continue;
        };
        let per_channel = shape[2];
        for (position, (code, expected)) in codes.iter().zip(case.reals("y")).enumerate() {
            assert!(
                (grid.min..=grid.max).contains(&i64::from(*code)),
                "case {index}: code {code}"
            );
            let c = position / per_channel % shape[1];
            let real = (i64::from(*code) - grid.zero_point.at(c)) as f64 * grid.scale.at(c);
            if case.0["op"] == "Trunc1" && expected.abs() > 1e20 {
                continue; // Version 1 does not clamp; the grid ends with `i32`.
            }
            // The executor's f32 arithmetic: relative, and a step of a range beyond 24 bits.
            let tolerance = 2e-7 * real.abs() + 1e-6 * grid.scale.at(c);
            assert!(
                (real - f64::from(expected)).abs() <= tolerance,
                "case {index}: {real} {expected}"
            );
        }
    }
}

/// The recording tells `HALF_UP` as the executor computes it from exact half away.
#[test]
fn exact_rounding_is_not_the_executors() {
    let differing: usize = cases()
        .iter()
        .filter(|case| case.0["op"] == "Quant" && case.0["mode"] == "HALF_UP")
        .map(|case| {
            let scale = case.parameter("scale");
            let zero_point = case.reals("zero_point")[0];
            let (per_channel, channels) = (case.shape()[2], case.shape()[1]);
            let Quantizer::Affine(affine) = case.quantizer() else {
                unreachable!()
            };
            let (min, max) = (affine.min_code() as f32, affine.max_code() as f32);
            case.reals("x")
                .iter()
                .zip(case.reals("y"))
                .enumerate()
                .filter(|(position, (x, y))| {
                    let scale = scale.at(position / per_channel % channels);
                    let level = (**x / scale + zero_point).clamp(min, max).round();
                    !affine.is_bipolar() && (level - zero_point) * scale != *y
                })
                .count()
        })
        .sum();
    assert!(differing > 0);
}
