//! Files that give a float model its quantizers: what their numbers mean, format by format, and hostile ones.

use std::path::Path;

use align_check_graph::encodings::{
    Backend, Encodings, Entry, Format, Place, Placed, Role, Scheme, WeightRule,
};
use align_check_graph::{Affine, Rounding, ZeroPointAdded};

fn parse(text: &str) -> Encodings {
    match Encodings::parse(Path::new("file"), text.as_bytes()) {
        Ok(encodings) => encodings,
        Err(error) => panic!("{error}"),
    }
}

/// The error of a file, which is one line that names it.
#[track_caller]
fn fails(text: &str, words: &[&str]) {
    let Err(error) = Encodings::parse(Path::new("a.file"), text.as_bytes()) else {
        panic!("read without an error: {text:.80}");
    };
    let message = error.to_string();
    assert!(message.starts_with("a.file: "), "{message}");
    assert!(!message.contains('\n'), "{message}");
    for word in words {
        assert!(message.contains(word), "'{word}' in '{message}'");
    }
}

fn affine(entry: &Entry) -> &Affine {
    match &entry.scheme {
        Scheme::Affine(affine) => affine,
        other => panic!("{other:?}"),
    }
}

fn tensor(name: &str) -> Place {
    Place::Tensor(name.into())
}

/// An AIMET file of version 0.4.0 with one activation.
fn listed(entry: &str) -> String {
    format!(r#"{{"activation_encodings": {{"t": [{{{entry}}}]}}, "param_encodings": {{}}}}"#)
}

#[test]
fn aimet_offsets_are_those_of_unsigned_codes() {
    // Documented examples' numbers: offset = min / scale.
    for (min, offset) in [(-114, -114.0), (-12, -12.0), (-127, -127.0)] {
        let text = listed(&format!(
            r#""bitwidth": 8, "is_symmetric": "False", "scale": 0.5, "offset": {offset}, "min": {}, "max": {}"#,
            f64::from(min) * 0.5,
            f64::from(min + 255) * 0.5
        ));
        let encodings = parse(&text);
        assert_eq!(encodings.format, Format::Aimet("0.4.0"));
        assert!(encodings.warnings.is_empty(), "{:?}", encodings.warnings);
        let a = affine(&encodings.entries[0]);
        assert_eq!((a.zero_point.at(0), a.scale.at(0)), (-offset as f32, 0.5));
        assert_eq!((a.signed, a.bits, a.narrow), (false, 8, false));
        assert_eq!(
            (a.rounding, a.zero_point_added),
            (Rounding::HalfAway, ZeroPointAdded::FromSmallest)
        );
    }
}

#[test]
fn aimet_offsets_that_contradict_the_range_are_recomputed_with_a_warning() {
    // The TensorFlow example of the same document: sign flipped, and one too small.
    for (stated, found) in [(11, -12), (126, -127)] {
        let text = listed(&format!(
            r#""bitwidth": 8, "is_symmetric": "False", "scale": 0.25, "offset": {stated}, "min": {}, "max": {}"#,
            f64::from(found) * 0.25,
            f64::from(found + 255) * 0.25
        ));
        let encodings = parse(&text);
        assert_eq!(
            affine(&encodings.entries[0]).zero_point.at(0),
            -found as f32
        );
        assert_eq!(encodings.warnings.len(), 1);
        let warning = &encodings.warnings[0];
        for word in [
            "'t'",
            &stated.to_string(),
            &found.to_string(),
            "min and max are trusted",
        ] {
            assert!(warning.contains(word), "{warning}");
        }
    }
}

#[test]
fn aimet_symmetric_tensors_are_signed_strict_ones_narrow_and_positive_ones_unsigned() {
    let entry = |offset: i32, min: f64, max: f64| {
        parse(&listed(&format!(
            r#""bitwidth": 8, "is_symmetric": "True", "scale": 0.5, "offset": {offset}, "min": {min}, "max": {max}"#
        )))
    };
    let plain = entry(-128, -64.0, 63.5);
    let a = affine(&plain.entries[0]);
    assert_eq!((a.signed, a.narrow, a.zero_point.at(0)), (true, false, 0.0));
    // The file's max reads 127 or 128 steps.
    for max in [63.5, 64.0] {
        let strict = entry(-127, -63.5, max);
        let a = affine(&strict.entries[0]);
        assert_eq!((a.signed, a.narrow, a.zero_point.at(0)), (true, true, 0.0));
        assert!(strict.warnings.is_empty());
    }
    let unsigned = entry(0, 0.0, 127.5);
    let a = affine(&unsigned.entries[0]);
    assert_eq!(
        (a.signed, a.narrow, a.zero_point.at(0)),
        (false, false, 0.0)
    );
}

#[test]
fn aimet_versions_differ_in_their_containers_only() {
    let channel = |scale: f64| {
        format!(
            r#"{{"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "scale": {scale}, "offset": -128.0, "min": {}, "max": {}}}"#,
            -128.0 * scale,
            127.0 * scale
        )
    };
    let old = |version: &str| {
        format!(
            r#"{{"version": "{version}", "activation_encodings": {{"f": [{{"bitwidth": 16, "dtype": "float"}}]}},
                "param_encodings": {{"w": [{}, {}]}}, "quantizer_args": {{"quant_scheme": "min_max"}}}}"#,
            channel(0.5),
            channel(0.25)
        )
    };
    let new = r#"{"version": "1.0.0", "activation_encodings": [{"name": "f", "dtype": "FLOAT", "bw": 16}],
        "param_encodings": [{"name": "w", "dtype": "INT", "bw": 8, "is_sym": true, "enc_type": "PER_CHANNEL",
        "scale": [0.5, 0.25], "offset": [-128, -128]}]}"#;
    let expected = parse(&old("0.5.0")).entries;
    assert_eq!(expected[0].scheme, Scheme::Float(16));
    assert_eq!(affine(&expected[1]).scale.values, [0.5, 0.25]);
    assert_eq!(parse(&old("0.6.1")).entries, expected);
    assert_eq!(parse(new).entries, expected);
    assert_eq!(parse(new).format, Format::Aimet("1.0.0"));
}

#[test]
fn aimet_2_has_one_list_whose_quantizers_may_be_off() {
    let text = |version: &str| {
        format!(
            r#"{{"version": "{version}", "encodings": [
            {{"name": "a", "output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 126}},
            {{"name": "w", "output_dtype": "int8", "y_scale": [0.5, 0.25], "axis": 1}},
            {{"name": "lpbq", "output_dtype": "int4", "y_scale": {{"x": [[1]], "x_scale": [1.0]}}, "axis": 0}},
            {{"name": "half", "output_dtype": "int8", "y_scale": 0.5, "y_zero_point": 0.5}}]}}"#
        )
    };
    for version in ["2.0.0", "2.1.0"] {
        let entries = parse(&text(version)).entries;
        assert!(
            entries
                .iter()
                .all(|e| e.placed == Placed::Maybe && e.role == Role::Either)
        );
        assert_eq!(
            (
                affine(&entries[0]).signed,
                affine(&entries[0]).zero_point.at(0)
            ),
            (false, 126.0)
        );
        let w = affine(&entries[1]);
        assert_eq!(
            (w.signed, w.zero_point.at(0), w.scale.axis),
            (true, 0.0, Some(1))
        );
        assert!(matches!(&entries[2].scheme, Scheme::Refused(what) if what.contains("LPBQ")));
        assert!(matches!(&entries[3].scheme, Scheme::Refused(what) if what.contains("0.5")));
    }
}

#[test]
fn aimet_blocks_and_shifts_are_refused_by_name() {
    for (more, word) in [
        (r#""enc_type": "LPBQ""#, "LPBQ"),
        (r#""enc_type": "PER_BLOCK""#, "PER_BLOCK"),
        (
            r#""enc_type": "PER_TENSOR", "zero_point_shift": [0.5]"#,
            "zero_point_shift",
        ),
    ] {
        let text = format!(
            r#"{{"param_encodings": [{{"name": "w", "dtype": "INT", "bw": 8, "is_sym": true, "scale": [1],
            "offset": [-128], {more}}}]}}"#
        );
        let scheme = parse(&text).entries.remove(0).scheme;
        assert!(
            matches!(&scheme, Scheme::Refused(what) if what.contains(word)),
            "{scheme:?}"
        );
    }
}

#[test]
fn a_calibration_cache_holds_scales_and_splits_at_the_last_colon() {
    let text = "TRT-8205-EntropyCalibration2\nimages: 3c010a14\nonnx::Conv_329: 3b810a13\n\
                (Unnamed Layer* 22) [Constant]_output: 3c010204\n";
    let encodings = parse(text);
    assert_eq!(encodings.format, Format::TensorRtCache);
    assert_eq!(
        encodings.weights,
        WeightRule::Symmetric { per_channel: true }
    );
    let scales: Vec<f32> = encodings
        .entries
        .iter()
        .map(|e| affine(e).scale.at(0))
        .collect();
    assert_eq!(scales, [0.007_875_938, 0.003_937_968_5, 1.0 / 127.0]);
    assert_eq!(encodings.entries[1].place, tensor("onnx::Conv_329"));
    let a = affine(&encodings.entries[0]);
    assert_eq!(
        (a.signed, a.narrow, a.rounding),
        (true, false, Rounding::HalfEven)
    );
}

#[test]
fn lines_that_cannot_be_read_are_counted_with_their_numbers() {
    let text = "TRT-8205-MinMaxCalibration\na: 3c010a14\nno hexadecimal\nb: 3c01\n\nc: +c010a14\nd: zz010a14\n";
    fails(text, &["4 lines", "(3, 4, 6, ...)"]);
    fails("TRT-1-x\na: 00000000\n", &["line 2", "'a'", "scale of 0"]);
    fails("TRT-1-x\na: 7fc00000\n", &["line 2", "NaN"]);
    fails("TRT-1-x\na: bc010a14\n", &["line 2", "scale of -0.0"]);
    fails("TRT-1-x\n", &["no entry"]);
    fails(
        "TRT-1-x\na: 3c010a14\na: 3c010a14\n",
        &["'a'", "two entries"],
    );
}

#[test]
fn a_ranges_file_states_amax_and_splits_at_the_first_colon() {
    let encodings = parse("data:127\nfc1:63.5\n");
    assert_eq!(encodings.format, Format::TensorRtRanges);
    assert_eq!(affine(&encodings.entries[0]).scale.at(0), 1.0);
    assert_eq!(affine(&encodings.entries[1]).scale.at(0), 0.5);
    fails(
        "data:1\nonnx::Conv_329:1\n",
        &["1 tensors", "'onnx::Conv_329'", "first one"],
    );
    fails("data:1\nnothing\n", &["1 lines", "(2)"]);
    fails("data:-1\n", &["line 1", "'data'"]);
    fails("data:inf\n", &["line 1", "inf"]);
}

#[test]
fn mqbench_tensorrt_states_127_steps() {
    let encodings = parse(r#"{"tensorrt": {"blob_range": {"a": 63.5}}}"#);
    assert_eq!(encodings.format, Format::MqBench(Backend::TensorRt));
    let a = affine(&encodings.entries[0]);
    assert_eq!((a.scale.at(0), a.signed, a.narrow), (0.5, true, true));
    assert_eq!(a.multiplier.as_ref().map(|m| m.at(0)), Some(2.0));
    fails(r#"{"tensorrt": {}}"#, &["blob_range"]);
    fails(
        r#"{"tensorrt": {"blob_range": {"a": "b"}}}"#,
        &["'a'", "not a number"],
    );
    fails(
        r#"{"tensorrt": {"blob_range": {"a": 1, "a": 1}}}"#,
        &["'a' stands twice"],
    );
}

#[test]
fn mqbench_nnie_lists_clip_values_by_node() {
    let text =
        r#"{"nnie": {"gfpq_param_dict": {"add": [1.5, 2.5], "up": [3], "up_permute_0": [3]}}}"#;
    let encodings = parse(text);
    let expected = |node: &str, index, of, max| {
        (
            Place::Input {
                node: node.into(),
                index,
                of,
            },
            Scheme::Gfpq { max },
        )
    };
    let found: Vec<_> = encodings
        .entries
        .into_iter()
        .map(|e| (e.place, e.scheme))
        .collect();
    assert_eq!(
        found,
        [
            expected("add", 0, 2, 1.5),
            expected("add", 1, 2, 2.5),
            expected("up", 0, 1, 3.0)
        ]
    );
    fails(
        r#"{"nnie": {"gfpq_param_dict": {"a": [0]}}}"#,
        &["node 'a'", "clip value of 0"],
    );
}

#[test]
fn mqbench_snpe_has_ranges_and_a_width_that_may_be_one_too_small() {
    let file = |entry: &str| {
        format!(r#"{{"activation_encodings": {{"t": [{{{entry}}}]}}, "param_encodings": {{}}}}"#)
    };
    let encodings = parse(&file(r#""bitwidth": 8, "min": -32.0, "max": 31.75"#));
    assert_eq!(encodings.format, Format::MqBench(Backend::Snpe));
    let a = affine(&encodings.entries[0]);
    assert_eq!(
        (a.scale.at(0), a.zero_point.at(0), a.signed),
        (0.25, 128.0, false)
    );
    assert_eq!(
        (a.rounding, a.zero_point_added),
        (Rounding::HalfEven, ZeroPointAdded::AfterRounding)
    );
    // 255 levels: int(log2(255)) = 7.
    let encodings = parse(&file(r#""bitwidth": 7, "min": -127.0, "max": 127.0"#));
    let a = affine(&encodings.entries[0]);
    assert_eq!(
        (a.bits, a.scale.at(0), a.signed, a.narrow),
        (8, 1.0, true, true)
    );
    fails(
        &file(r#""bitwidth": 8, "min": 1.0, "max": -1.0"#),
        &["'t'", "range from 1 to -1"],
    );
    fails(
        &file(r#""bitwidth": 8.5, "min": 0, "max": 1"#),
        &["'t'", "8.5 bits"],
    );
    fails(
        &file(r#""bitwidth": 8, "min": 0, "max": 0"#),
        &["'t'", "scale of 0"],
    );
}

#[test]
fn mqbench_ppl_has_steps_of_weights_too() {
    let entry = |zero: &str, min: &str| {
        format!(
            r#"{{"ppl": {{"w": {{"step": [0.5, 0.25], "zero_point": {zero}, "min": {min}, "max": [0, 0], "bit": 8, "type": "biased"}}}}}}"#
        )
    };
    let encodings = parse(&entry("[122, 3]", "[-61, -0.75]"));
    assert_eq!(encodings.format, Format::MqBench(Backend::Ppl));
    let a = affine(&encodings.entries[0]);
    assert_eq!(
        (a.zero_point.values.as_slice(), a.signed, a.bits),
        (&[122.0, 3.0][..], false, 8)
    );
    let signed = parse(&entry("[0, 0]", "[-64, -32]"));
    assert!(affine(&signed.entries[0]).signed);
    fails(&entry("[0, 0]", "[-3, -1]"), &["'w'", "codes from -6"]);
    fails(
        &entry("[0, 0, 0]", "[0, 0]"),
        &["2 scales and 3 zero points"],
    );
}

#[test]
fn mqbench_text_files_are_told_from_json_by_their_contents() {
    let cuda = parse("image: 1.5\n/conv/Relu_output_0: 63.5\n");
    assert_eq!(cuda.format, Format::MqBench(Backend::PplCuda));
    assert_eq!(affine(&cuda.entries[1]).scale.at(0), 0.5);
    assert!(cuda.notes[0].contains("larger bound"));
    let tengine = parse("a tensor 0.5 3\nb 0.25 0\n");
    assert_eq!(tengine.format, Format::MqBench(Backend::Tengine));
    assert_eq!(tengine.entries[0].place, tensor("a tensor"));
    assert_eq!(affine(&tengine.entries[0]).zero_point.at(0), 3.0);
    fails("a 0.5 3\nb 0.25\n", &["1 lines", "(2)"]);
}

#[test]
fn mqbench_vitis_and_stpu() {
    let vitis = parse(r#"{"vitis": {"t": {"scale": 0.03125}}}"#);
    let a = affine(&vitis.entries[0]);
    assert_eq!(
        (a.scale.at(0), a.rounding),
        (0.03125, Rounding::HalfEvenNegativeUp)
    );
    fails(
        r#"{"vitis": {"t": {"scale": 0.3}}}"#,
        &["'t'", "power of two"],
    );
    let stpu = parse(
        r#"{"t": {"min": -63.5, "max": 63.5, "emin": 120}, "c_weights": {"min": [-127.0], "max": [127.0]},
            "c_bias": {"alpha": 0.5, "zero_point": 0}}"#,
    );
    assert_eq!(stpu.format, Format::MqBench(Backend::Stpu));
    let places: Vec<_> = stpu.entries.iter().map(|e| e.place.clone()).collect();
    assert_eq!(places, [tensor("t"), Place::Weights("c".into())]);
    assert_eq!(affine(&stpu.entries[0]).scale.at(0), 0.5);
    assert!(stpu.notes[1].contains("1 biases"));
    fails(r#"{"t": {"min": -1, "max": 2}}"#, &["'t'", "not symmetric"]);
}

#[test]
fn vitis_ai_positions_are_powers_of_two() {
    let info = |pair: &str| {
        format!(
            r#"{{"param": {{"w": {pair}}}, "output": {{"y": [[8, 3]]}}, "input": {{"x": [[8, -1]]}}}}"#
        )
    };
    let encodings = parse(&info("[[8, 7]]"));
    assert_eq!(encodings.format, Format::VitisAi);
    let found: Vec<_> = encodings
        .entries
        .iter()
        .map(|e| (affine(e).scale.at(0), affine(e).rounding, e.role))
        .collect();
    assert_eq!(
        found,
        [
            (1.0 / 128.0, Rounding::HalfAway, Role::Parameter),
            (0.125, Rounding::HalfUp, Role::Activation),
            (2.0, Rounding::HalfAway, Role::Activation),
        ]
    );
    fails(&info("[[8, 1e9]]"), &["'w'", "position"]);
    fails(&info("[[8, 7], [8, 7]]"), &["'w'", "one pair"]);
    fails(&info("[[64, 7]]"), &["'w'", "64 bits"]);
}

#[test]
fn distiller_multiplies_by_127_over_the_largest_magnitude() {
    let text = "# collected\nconv1:\n  inputs:\n    0:\n      min: -2.0\n      max: 2.64\n      shape: (256, 3, 224, 224)\n  \
                output:\n    min: -63.5\n    max: 35.28\n    avg_min: -22.4\nlayer1.0.conv1:\n  output:\n    min: 0.0\n    \
                max: 0.0\n";
    let encodings = parse(text);
    assert_eq!(encodings.format, Format::Distiller);
    let places: Vec<_> = encodings.entries.iter().map(|e| e.place.clone()).collect();
    let module = |name: &str| Place::Module(name.into());
    assert_eq!(
        places,
        [
            Place::ModuleInput("conv1".into(), 0),
            module("conv1"),
            module("layer1.0.conv1")
        ]
    );
    let a = affine(&encodings.entries[1]);
    assert_eq!(
        (a.scale.at(0), a.multiplier.as_ref().map(|m| m.at(0))),
        (0.5, Some(2.0))
    );
    assert_eq!(
        (a.signed, a.narrow, a.zero_point_added),
        (true, false, ZeroPointAdded::BeforeRounding)
    );
    // A range of zero has the factor 1.
    assert_eq!(affine(&encodings.entries[2]).scale.at(0), 1.0);
    fails(
        "a:\n  output:\n    min: .nan\n    max: 1\n",
        &["'a'", "NaN"],
    );
    fails("a:\n  output:\n    min: 1\n", &["'a'", "lacks 'max'"]);
    fails(
        "a: &x\n  output:\n    min: 0\n    max: 1\nb: *x\n",
        &["line 5", "alias"],
    );
    fails(
        "a:\n  output:\n    min: 0\n    max: 1\na:\n  output: 0\n",
        &["'a' stands twice"],
    );
}

#[test]
fn svp_nnn_scales_multiply() {
    let text = "version: 65536\nlayer {\n  name: \"conv1\"  # first\n  calc_data_type: S8\n  quant_param {\n    input { \
                data_type: S8 scale: 12.75 offset: -77 }\n    weight { scale: [2, 4] offset: 0 offset: 0 params: \"\\001\" }\n  }\n}\n";
    let encodings = parse(text);
    assert_eq!(encodings.format, Format::SvpNnn);
    let input = affine(&encodings.entries[0]);
    // The guide's example: exactly [-4, 16].
    let real = |code: i64| (code as f64 - f64::from(input.zero_point.at(0))) / 12.75;
    assert_eq!(
        (real(input.min_code()), real(input.max_code())),
        (-4.0, 16.0)
    );
    assert_eq!(input.multiplier.as_ref().map(|m| m.at(0)), Some(12.75));
    assert_eq!(encodings.entries[1].place, Place::Weights("conv1".into()));
    assert_eq!(affine(&encodings.entries[1]).scale.values, [0.5, 0.25]);
    fails(
        "layer { name: \"a\" quant_param { input { scale: 0 } } }",
        &["'a'", "scale of 0"],
    );
    fails(
        "layer { name: \"a\" quant_param { input { scale: x } } }",
        &["'a'", "not a number"],
    );
    fails(
        "layer { name: \"a\" quant_param { input { data_type: S9 } } }",
        &["'a'", "data type"],
    );
    fails("layer { quant_param { } }", &["lacks 'name'"]);
    fails("layer { name: \"a\" quant_param {", &["without an end"]);
    fails("layer { name: \"quant_param", &["without an end"]);
}

#[test]
fn svp_nnn_is_binary_too() {
    // CalibrationParam { layer { name: "c", quant_param { input { data_type: S8, scale: 12.75, offset: -77 } } } }
    let factor = [
        &[0x08, 2, 0x15][..],
        &12.75f32.to_le_bytes(),
        &[0x1d],
        &(-77f32).to_le_bytes(),
    ]
    .concat();
    let quant = [&[0x0a, factor.len() as u8][..], &factor].concat();
    let layer = [&[0x0a, 1, b'c', 0x1a, quant.len() as u8][..], &quant].concat();
    let file = [
        &[0x08, 0x80, 0x80, 0x04, 0x12, layer.len() as u8][..],
        &layer,
    ]
    .concat();
    let encodings = Encodings::parse(Path::new("file"), &file).unwrap();
    assert_eq!(encodings.format, Format::SvpNnn);
    assert_eq!(affine(&encodings.entries[0]).zero_point.at(0), -77.0);
    let cut = Encodings::parse(Path::new("file"), &file[..file.len() - 1]).unwrap_err();
    assert!(cut.to_string().contains("binary"), "{cut}");
}

#[test]
fn hostile_files_are_one_line_errors() {
    fails("", &["empty"]);
    fails("\u{feff}  \n", &["empty"]);
    fails("hello", &["no known format"]);
    fails("{}", &["no known format"]);
    fails("[1, 2]", &["no known format"]);
    fails(&"[".repeat(100_000), &["recursion"]);
    fails(
        &format!("{}{}", r#"{"a":"#.repeat(5000), "1"),
        &["recursion"],
    );
    fails(
        r#"{"activation_encodings": {"t": [{"scale": NaN}]}}"#,
        &["JSON"],
    );
    fails(
        r#"{"version": "9.9.9", "encodings": []}"#,
        &["9.9.9", "2.1.0"],
    );
    fails(
        r#"{"activation_encodings": 3}"#,
        &["neither a list nor an object"],
    );
    fails(r#"{"encodings": {"a": 1}}"#, &["not a list"]);
    fails(
        r#"{"encodings": [{"output_dtype": "int8"}]}"#,
        &["entry 0", "no name"],
    );
    fails(
        r#"{"encodings": [{"name": "a", "output_dtype": "int99", "y_scale": 1}]}"#,
        &["'a'", "99 bits"],
    );
    fails(
        r#"{"encodings": [{"name": "a", "output_dtype": "complex", "y_scale": 1}]}"#,
        &["'a'", "complex"],
    );
    fails(
        r#"{"encodings": [{"name": "a", "output_dtype": "int8", "y_scale": 1e-60}]}"#,
        &["'a'", "scale"],
    );
    fails(
        r#"{"encodings": [{"name": "a", "output_dtype": "int8", "y_scale": []}]}"#,
        &["'a'", "no scale"],
    );
    fails(
        &listed(r#""bitwidth": 8, "scale": 1, "offset": 5"#),
        &["'t'", "outside"],
    );
    fails(
        &listed(r#""bitwidth": 8, "scale": 1"#),
        &["'t'", "without offset"],
    );
    fails(
        &listed(r#""bitwidth": 8, "scale": 1, "offset": 0, "min": 0, "max": 10"#),
        &["'t'", "10 steps"],
    );
    fails(
        &listed(r#""bitwidth": 1e300, "scale": 1, "offset": 0"#),
        &["'t'", "bits"],
    );
    fails(
        &listed(r#""bitwidth": 8, "is_symmetric": "Perhaps", "scale": 1, "offset": 0"#),
        &["'t'", "is_symmetric"],
    );
    let deep = format!("quant_param {}", "{ a ".repeat(100_000));
    fails(&deep, &["nested too deep"]);
    let yaml = (0..200).fold(String::new(), |yaml, i| yaml + &" ".repeat(i) + "output:\n");
    fails(&yaml, &["nested more than"]);
}
