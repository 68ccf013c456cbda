//! The units against examples worked out by hand; `tests/nvdla_traces.rs` has NVIDIA's.

use align_check_specs::Rounding;

use super::conv::{self, Geometry};
use super::lut::{Index, Interpolation, Lookup, Slope, Table, Which};
use super::pdp::{Average, Method, Pooling};
use super::sdp::{self, Alu, Multiply, X, Y};
use super::{Converter, ROUNDING, cdp::Lrn};
use crate::num::Flags;

const X_UNIT: X = X {
    alu: None,
    alu_shift: 0,
    multiply: Multiply::Bypass,
    mul_shift: 0,
    relu: false,
    rounding: ROUNDING,
};

#[test]
fn truncation_rounds_ties_away_and_saturates() {
    for (acc, clip, expected) in [
        (5, 1, 3),
        (-5, 1, -3),
        (6, 2, 2),
        (-6, 2, -2),
        (-5, 2, -1),
        (7, 0, 7),
    ] {
        assert_eq!(conv::truncate(acc, clip, ROUNDING).value, expected);
    }
    let large = conv::truncate(1 << 40, 8, ROUNDING);
    assert_eq!(large.value, i64::from(i32::MAX));
    assert!(large.flags.contains(Flags::SATURATED));
}

/// Rows and columns of padding, stride 2 across, two kernels, against sums written out.
#[test]
fn convolution_pads_with_the_value_and_strides() {
    let geometry = Geometry {
        input: [2, 3, 2],
        kernels: 2,
        kernel: [1, 2],
        stride: [1, 2],
        dilation: [1, 1],
        pad: [0, 1],
        output: [2, 2],
    };
    let x = [1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, -6];
    let weights = [1, 0, 0, 10, 2, 2, 2, 2];
    for atom in [1, 2, 8] {
        let sums = geometry.accumulate(&x, &weights, 7, atom, conv::INT8_PARTIAL_BITS);
        assert_eq!(sums.flags, Flags::default());
        assert_eq!(
            sums.value,
            [7 + 20, 34, 3 + 60, 36, 7 - 20, 22, -3 - 60, -36]
        );
    }
}

/// 100 + 100 - 150 in 8 bits: the order matters.
#[test]
fn partial_sums_saturate_one_after_the_other() {
    let geometry = Geometry {
        input: [1, 1, 3],
        kernels: 1,
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [0, 0],
        output: [1, 1],
    };
    for (atom, expected) in [(1, 127 - 150), (3, 50), (2, 127 - 150)] {
        let sum = geometry.accumulate(&[100, 100, -150], &[1, 1, 1], 0, atom, 8);
        assert_eq!(sum.value, [expected.max(-128)], "{atom}");
    }
}

#[test]
fn x_shifts_even_if_its_multiplier_is_bypassed() {
    let unit = X {
        mul_shift: 1,
        ..X_UNIT
    };
    assert_eq!(unit.apply(-5, 0, 100).value, -3);
    assert_eq!(unit.apply(5, 0, 100).value, 3);
}

#[test]
fn x_shifts_its_operand_with_saturation() {
    let unit = X {
        alu: Some(Alu::Sum),
        alu_shift: 20,
        ..X_UNIT
    };
    let sum = unit.apply(-1, i16::MAX, 0);
    assert_eq!(sum.value, i64::from(i32::MAX) - 1);
    assert!(sum.flags.contains(Flags::SATURATED));
    assert_eq!(unit.apply(3, -1, 0).value, 3 - (1 << 20));
}

#[test]
fn prelu_leaves_what_is_not_negative() {
    let unit = X {
        multiply: Multiply::Negative,
        mul_shift: 2,
        ..X_UNIT
    };
    assert_eq!(unit.apply(1000, 0, 3).value, 1000);
    assert_eq!(unit.apply(-1000, 0, 3).value, -750);
    let relu = X { relu: true, ..unit };
    assert_eq!(relu.apply(-1000, 0, 3).value, 0);
}

#[test]
fn y_multiplies_before_it_adds() {
    let unit = Y {
        multiply: Multiply::All,
        shift: 3,
        alu: Some(Alu::Sum),
        table: None,
        rounding: ROUNDING,
    };
    // 12 / 8 = 1.5 is a tie.
    assert_eq!(unit.apply(3, 10, 4).value, 12);
    assert_eq!(unit.apply(-3, 10, 4).value, 8);
    let differs = Y {
        multiply: Multiply::Bypass,
        alu: Some(Alu::NotEqual),
        ..unit
    };
    assert_eq!(differs.apply(3, 3, 0).value, 0);
    assert_eq!(differs.apply(3, 4, 0).value, 1);
}

#[test]
fn the_output_saturates_twice() {
    let converter = Converter {
        offset: 1,
        scale: -3,
        shift: 1,
        rounding: ROUNDING,
    };
    assert_eq!(sdp::output(2, &converter, 8).value, -2);
    assert_eq!(sdp::output(0, &converter, 8).value, 2);
    let low = sdp::output(1 << 30, &converter, 16);
    assert_eq!(low.value, -(1 << 15));
    assert_eq!(
        sdp::operand(-7, None).value,
        sdp::operand(-7, Some(&Converter::IDENTITY)).value
    );
}

/// A table of `entries` that are 100 times their index.
fn table(entries: i16, index: Index) -> Table {
    Table {
        entries: (0..entries).map(|i| 100 * i).collect(),
        start: 10,
        end: 10 + 64 * 4,
        index,
        under: Slope { scale: 3, shift: 1 },
        over: Slope {
            scale: -1,
            shift: -2,
        },
    }
}

#[test]
fn a_linear_table_interpolates_and_runs_on_beyond_its_ends() {
    let lookup = Lookup {
        le: table(65, Index::Linear { select: 2 }),
        lo: table(257, Index::Linear { select: 0 }),
        under: Which::Le,
        over: Which::Le,
        hybrid: Which::Le,
        rounding: ROUNDING,
    };
    for form in [Interpolation::Cdp, Interpolation::Sdp] {
        let at = |x| lookup.apply(x, form).value;
        assert_eq!(at(11), 25);
        assert_eq!(at(10 + 4 * 5 + 2), 550);
        // The start itself is below the table: 0 * 3 / 2.
        assert_eq!(at(10), 0);
        assert_eq!(at(5), -8);
        assert_eq!(at(10 + 64 * 4 + 3), 6400 - 12);
        // LO ends at 266 too: both are over.
        assert_eq!(at(10 + 64 * 4), 6400);
    }
}

#[test]
fn an_exponential_table_begins_at_its_offset() {
    let mut lookup = Lookup {
        le: table(65, Index::Exponential { offset: 2 }),
        lo: table(257, Index::Linear { select: 10 }),
        under: Which::Le,
        over: Which::Lo,
        hybrid: Which::Le,
        rounding: Rounding::HalfAway,
    };
    let at = |lookup: &Lookup, x| lookup.apply(x, Interpolation::Cdp).value;
    // d = 4: entry 0; d = 12: log2 is 3, entry 1, half way to entry 2; d = 3: LO alone hits.
    assert_eq!(at(&lookup, 14), 0);
    assert_eq!(at(&lookup, 22), 150);
    assert_eq!(at(&lookup, 13), 0);
    lookup.lo.start = 1000;
    assert_eq!(at(&lookup, 13), -2);
    lookup.under = Which::Lo;
    assert_eq!(at(&lookup, 13), -1481);
}

/// The example of 3 x 3 with reciprocals of one third: 0x5555 is a little less.
#[test]
fn an_average_rounds_twice() {
    let average = Average {
        recip_width: 0x5555,
        recip_height: 0x5555,
        rounding: ROUNDING,
    };
    // 13 / 3 = 4.33 to 4, / 3 = 1.33; 14 / 3 = 4.67 to 5, / 3 = 1.67.
    assert_eq!(average.finish(13, 8).value, 1);
    assert_eq!(average.finish(14, 8).value, 2);
    assert_eq!(average.finish(-14, 8).value, -2);
}

#[test]
fn pooling_pads_averages_from_the_table_and_ignores_padding_elsewhere() {
    let mut pooling = Pooling {
        kernel: [2, 2],
        stride: [2, 2],
        pad: [1, 1],
        pad_values: [0, 40, 80, 0, 0, 0, 0, 0],
        output: [2, 2],
    };
    let x = [-1, -2, -3, -4, -5, -6, -7, -8, -9];
    let plane = |pooling: &Pooling, method| pooling.plane(&x, [3, 3], method, 8).value;
    assert_eq!(plane(&pooling, Method::Max), [-1, -2, -4, -5]);
    assert_eq!(plane(&pooling, Method::Min), [-1, -3, -7, -9]);
    let average = Method::Average(Average {
        recip_width: 0x8000,
        recip_height: 0x8000,
        rounding: ROUNDING,
    });
    // A column of one real row, and a row of two columns: -1 + 40 + 80 = 119, 59.5, 60, 30.
    // A column of two real rows: -11 + 80 = 69, 34.5, 35, 17.5, 18.
    assert_eq!(plane(&pooling, average), [30, 19, 18, -7]);
    pooling.pad_values = [0; 8];
    assert_eq!(plane(&pooling, average), [-1, -2, -3, -7]);
}

#[test]
fn lrn_sums_squares_around_a_channel() {
    let identity = Table {
        entries: (0..257).collect(),
        start: 0,
        end: 256,
        index: Index::Linear { select: 0 },
        under: Slope::default(),
        over: Slope::default(),
    };
    let lrn = Lrn {
        bits: 8,
        input: Converter::IDENTITY,
        reach: 1,
        squares: true,
        table: Lookup {
            le: table(65, Index::Linear { select: -20 }),
            lo: identity,
            under: Which::Lo,
            over: Which::Lo,
            hybrid: Which::Lo,
            rounding: ROUNDING,
        },
        multiply: true,
        output: Converter::IDENTITY,
    };
    assert_eq!(lrn.pixel(&[1, -2, 3, 0]).value, [5, -28, 39, 0]);
    let plain = Lrn {
        multiply: false,
        ..lrn.clone()
    };
    assert_eq!(plain.pixel(&[1, -2, 3, 0]).value, [5, 14, 13, 9]);
    let linear = Lrn {
        squares: false,
        ..lrn
    };
    assert_eq!(linear.pixel(&[1, -2, 3, 0]).value, [1, 0, 9, 0]);
}
