//! Caffe files that are damaged, strange or mean harm: a graph, or an error on one line that names file and layer.

mod caffe_writer;
mod support;

use std::collections::BTreeMap;

use align_check_graph::Limits;
use align_check_graph::caffe::proto::{BlobProto, NetParameter, V1LayerParameter};
use caffe_writer::{behind, blob, caffemodel, graph, layer, one, read};
use proptest::prelude::*;
use prost::Message;

const CONV: &str = "convolution_param { num_output: 2 kernel_size: 3 pad: 1 }";

fn small() -> (String, Vec<u8>) {
    let text = behind(
        &[1, 2, 4, 4],
        &format!(
            "layer {{ name: \"c\" type: \"Convolution\" bottom: \"x\" top: \"c\" gfpq_param: 4 {CONV} }}\n\
             layer {{ name: \"n\" type: \"BatchNorm\" bottom: \"c\" top: \"c\" }}\n\
             layer {{ name: \"s\" type: \"Scale\" bottom: \"c\" top: \"c\" scale_param {{ bias_term: true }} }}\n\
             layer {{ name: \"p\" type: \"Pooling\" bottom: \"c\" top: \"p\" pooling_param {{ kernel_size: 2 stride: 2 }} }}\n\
             layer {{ name: \"f\" type: \"InnerProduct\" bottom: \"p\" top: \"f\" inner_product_param {{ num_output: 3 }} }}\n"
        ),
    );
    let pair = || blob(&[2], &[0.5, 1.0]);
    let weights = caffemodel(vec![
        layer("c", vec![blob(&[2, 2, 3, 3], &[0.25; 36]), pair()]),
        layer("n", vec![pair(), pair(), blob(&[1], &[1.0])]),
        layer("s", vec![pair(), pair()]),
        layer("f", vec![blob(&[3, 8], &[0.5; 24]), blob(&[3], &[0.0; 3])]),
    ]);
    (text, weights)
}

/// Loads whatever the bytes are; an error must be one line that names a file.
fn survive(prototxt: &[u8], weights: &[u8]) {
    support::survive("model.", |limits| read(prototxt, Some(weights), limits));
}

#[test]
fn truncated_at_every_length() {
    let (text, weights) = small();
    let whole = read(text.as_bytes(), Some(&weights), &Limits::default()).unwrap();
    whole.graph(&BTreeMap::new()).unwrap();
    support::truncated(text.as_bytes(), |text| survive(text, &weights));
    support::truncated(&weights, |weights| survive(text.as_bytes(), weights));
}

#[test]
fn changed_bytes() {
    let (text, weights) = small();
    support::changed(text.as_bytes(), |text| survive(text, &weights));
    support::changed(&weights, |weights| survive(text.as_bytes(), weights));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text(text in "input: \"x\" [a-z_ {}:\"0-9.\\[\\],<>#\\\\-]{0,200}") {
        survive(text.as_bytes(), &small().1);
    }

    #[test]
    fn random_weights(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survive(small().0.as_bytes(), &bytes);
    }
}

/// The error of a network without weights.
fn refused(text: &str) -> String {
    match graph(text, vec![]) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error,
    }
}

#[track_caller]
fn says(error: &str, parts: &[&str]) {
    assert!(!error.contains('\n'), "{error:?}");
    support::says(error, parts);
}

#[test]
fn networks_that_contradict_themselves() {
    let two = |first: &str, second: &str| {
        let layer = |name: &str, ends: &str| {
            format!("layer {{ name: \"{name}\" type: \"ReLU\" {ends} }}\n")
        };
        behind(&[1, 2], &(layer("a", first) + &layer("b", second)))
    };
    let [x_y, y_x] = ["bottom: \"x\" top: \"y\"", "bottom: \"y\" top: \"z\""];
    for (text, parts) in [
        // A cycle: each reads what the other makes.
        (
            two("bottom: \"z\" top: \"y\"", y_x),
            vec!["layer 'a' (ReLU)", "bottom 'z'"],
        ),
        (
            two(x_y, x_y),
            vec!["layer 'b' (ReLU)", "top 'y' is made by two layers"],
        ),
        (
            two(x_y, "bottom: \"y\" top: \"x\""),
            vec!["layer 'b'", "top 'x'"],
        ),
        (
            two(x_y, "bottom: \"q\" top: \"z\""),
            vec!["layer 'b'", "bottom 'q' is made by no layer"],
        ),
        (
            two(x_y, y_x).replace("\"b\"", "\"a\""),
            vec!["two layers are named 'a'"],
        ),
        (two(x_y, "bottom: \"y\""), vec!["layer 'b'", "no top"]),
        (
            two(x_y, "bottom: \"y\" top: \"z\" top: \"w\""),
            vec!["node 'b' (ReLU)", "top 'w'"],
        ),
        (
            two(x_y, "bottom: \"y\" top: \"z\" include { } exclude { }"),
            vec!["layer 'b'", "both include"],
        ),
        (
            two(x_y, "bottom: \"y\" top: \"z\" include { weather: 1 }"),
            vec!["layer 'b'", "'weather'"],
        ),
        (
            "input: \"x\" input_dim: 1".into(),
            vec!["1 inputs", "1 extents"],
        ),
        ("name: \"n\"".into(), vec!["no layer"]),
        (
            "layer { name: \"a\" type: \"ReLU\" bottom: \"x\" top: \"y\" }".into(),
            vec!["bottom 'x'"],
        ),
        (
            "layers { name: \"a\" type: RELU }".into(),
            vec!["V1", "upgrade_net_proto_text"],
        ),
        (
            behind(&[1, 2], "layer: 3"),
            vec!["'layer' must be a message"],
        ),
        (
            behind(&[1, 2], &one("Flux", "")),
            vec!["node 'l' (Flux)", "not evaluated"],
        ),
        (
            behind(&[1, 2], &one("ReLU", "blobs { }")),
            vec!["layer 'l'", "inside the prototxt"],
        ),
        (
            behind(&[1, 2], &one("ReLU", "gfpq_param { z: 1 }")),
            vec!["layer 'l'", "not public"],
        ),
        (
            behind(&[1, 2], &one("ReLU", "gfpq_param: -1")),
            vec!["node 'l'", "clip value of -1"],
        ),
        (
            behind(&[1, 2], &one("ReLU", "gfpq_param: [1, 2]")),
            vec!["2 clip values for 1 bottoms"],
        ),
    ] {
        says(
            &refused(&text),
            &[&["model.prototxt"], parts.as_slice()].concat(),
        );
    }
}

#[test]
fn parameters_that_do_not_fit() {
    let image = [1, 4, 6, 6];
    for (kind, params, part) in [
        (
            "Convolution",
            "convolution_param { num_output: 1 }",
            "'kernel_size' is missing",
        ),
        (
            "Convolution",
            "convolution_param { kernel_size: 1 }",
            "'num_output' is missing",
        ),
        (
            "Convolution",
            "convolution_param { num_output: 1 kernel_size: 9 }",
            "reaches over 9",
        ),
        (
            "Convolution",
            "convolution_param { num_output: 1 kernel_size: 0 }",
            "at least 1",
        ),
        (
            "Convolution",
            "convolution_param { num_output: 1 kernel_size: 1 stride: 0 }",
            "at least 1",
        ),
        (
            "Convolution",
            "convolution_param { num_output: 3 kernel_size: 1 group: 2 }",
            "2 groups",
        ),
        (
            "Convolution",
            "convolution_param { num_output: 1 kernel_size: 1 group: 0 }",
            "0 groups",
        ),
        (
            "Convolution",
            "convolution_param { num_output: 1 kernel_size: 1 kernel_size: 1 kernel_size: 1 }",
            "two axes",
        ),
        (
            "Convolution",
            "convolution_param { num_output: 1 kernel_size: 1 axis: 2 }",
            "another axis",
        ),
        (
            "Convolution",
            "convolution_param { num_output: 1 kernel_size: 1 twist: 2 }",
            "'twist' is not understood",
        ),
        (
            "Convolution",
            "convolution_param { num_output: -1 kernel_size: 1 }",
            "cannot be -1",
        ),
        (
            "Convolution",
            "convolution_param { num_output: 1 kernel_size: 99999999999 }",
            "cannot be 99999999999",
        ),
        (
            "ConvolutionDepthwise",
            "convolution_param { num_output: 4 kernel_size: 1 group: 2 }",
            "2 groups for 4",
        ),
        (
            "Deconvolution",
            "convolution_param { num_output: 1 kernel_size: 1 pad: 9 }",
            "no output",
        ),
        (
            "Pooling",
            "pooling_param { kernel_size: 9 }",
            "larger than the bottom",
        ),
        (
            "Pooling",
            "pooling_param { kernel_size: 2 pad: 2 }",
            "padding (2)",
        ),
        (
            "Pooling",
            "pooling_param { kernel_size: 1 stride: 9 }",
            "outside the bottom",
        ),
        (
            "Pooling",
            "pooling_param { pool: STOCHASTIC kernel_size: 2 }",
            "stochastic",
        ),
        (
            "Pooling",
            "pooling_param { pool: MEDIAN kernel_size: 2 }",
            "one of MAX, AVE",
        ),
        ("Eltwise", "", "one bottom"),
        ("Softmax", "softmax_param { axis: 7 }", "axis 7"),
        (
            "Flatten",
            "flatten_param { axis: 3 end_axis: 1 }",
            "axes from 3 to 1",
        ),
        (
            "Reshape",
            "reshape_param { shape { dim: 5 dim: -1 } }",
            "does not fit",
        ),
        (
            "Reshape",
            "reshape_param { shape { dim: -1 dim: -1 } }",
            "extents",
        ),
        (
            "Reshape",
            "reshape_param { shape { dim: 1 } axis: 9 }",
            "outside the bottom",
        ),
        ("Permute", "permute_param { order: 0 order: 0 }", "order"),
        ("Slice", "slice_param { slice_point: 9 }", "cuts"),
        (
            "Upsample",
            "upsample_param { scale: 0 }",
            "'scale' is missing",
        ),
        ("Interp", "interp_param { height: 3 }", "other than one"),
        ("Power", "power_param { power: 2 }", "the power 2"),
        (
            "PReLU",
            "prelu_param { channel_shared: maybe }",
            "true or false",
        ),
        (
            "ReLU",
            "relu_param { negative_slope: nan }",
            "finite number",
        ),
        (
            "ReLU",
            "relu_param { negative_slope: 1 negative_slope: 1 }",
            "given twice",
        ),
        ("ReLU", "relu_param: 1", "must be a message"),
    ] {
        let error = refused(&behind(&image, &one(kind, params)));
        says(&error, &["model.prototxt", "'l'", kind, part]);
    }
    let max = "layer { name: \"m\" type: \"Eltwise\" bottom: \"x\" bottom: \"x\" top: \"y\" \
               eltwise_param { operation: MAX } }";
    says(
        &refused(&behind(&image, max)),
        &["'m' (Eltwise)", "maximum"],
    );
    // Sizes that multiply past memory.
    for (shape, layers) in [
        (
            "dim: 2147483648 dim: 2147483648 dim: 2147483648".to_owned(),
            one("ReLU", ""),
        ),
        (
            "dim: 1 dim: 1 dim: 2 dim: 2".to_owned(),
            one("Upsample", "upsample_param { scale: 2147483648 }"),
        ),
        (
            "dim: 1 dim: 1 dim: 2 dim: 2".to_owned(),
            one(
                "Pooling",
                "pooling_param { kernel_size: 2147483648 pad: 2147483647 stride: 2147483648 }",
            ),
        ),
        (
            "dim: 1 dim: 1 dim: 9 dim: 9".to_owned(),
            one(
                "Convolution",
                "convolution_param { num_output: 2147483648 kernel_size: 9 }",
            ),
        ),
        (
            "dim: 1 dim: 1 dim: 9 dim: 9".to_owned(),
            one(
                "Deconvolution",
                "convolution_param { num_output: 1 kernel_size: 9 stride: 2147483648 }",
            ),
        ),
        (
            "dim: 1 dim: 9".to_owned(),
            one(
                "InnerProduct",
                "inner_product_param { num_output: 2147483648 }",
            ),
        ),
    ] {
        let text = format!("input: \"x\" input_shape {{ {shape} }}\n{layers}");
        // Of the right shape where that is not what is too large.
        let kernel = blob(&[1, 1, 9, 9], &[1.0; 81]);
        let weights = vec![layer("l", vec![kernel, blob(&[1], &[1.0])])];
        let error = graph(&text, weights).unwrap_err();
        says(&error, &["model.prototxt", "limit"]);
    }
    let deep = behind(&[1], &"layer { ".repeat(1_000_000));
    says(&refused(&deep), &["64 deep"]);
    let open = behind(&[1, 2], &one("ReLU", "relu_param { "));
    says(&refused(&open), &["line 2", "the file ends where '}'"]);
}

#[test]
fn weights_that_do_not_fit() {
    let text = behind(&[1, 2, 4, 4], &one("Convolution", CONV));
    let good = || blob(&[2, 2, 3, 3], &[0.5; 36]);
    let bias = || blob(&[2], &[0.0; 2]);
    graph(&text, vec![layer("l", vec![good(), bias()])]).unwrap();
    let raw = BlobProto {
        raw_data: Some(vec![0; 72]),
        ..blob(&[2, 2, 3, 3], &[])
    };
    let mut nan = good();
    nan.data[7] = f32::NAN;
    for (blobs, parts) in [
        (
            vec![good()],
            vec!["model.caffemodel", "holds 1 blobs", "blob 1 of shape [2]"],
        ),
        (
            vec![blob(&[2, 2, 3, 2], &[0.5; 24]), bias()],
            vec!["[2, 2, 3, 2], not [2, 2, 3, 3]"],
        ),
        (
            vec![blob(&[2, 2, 3, 3], &[0.5; 35]), bias()],
            vec!["holds 35 numbers", "36"],
        ),
        (
            vec![blob(&[1 << 40, 1 << 40], &[0.5]), bias()],
            vec!["limit"],
        ),
        (
            vec![blob(&[-2, 2, 3, 3], &[0.5; 36]), bias()],
            vec!["negative"],
        ),
        (vec![raw, bias()], vec!["raw data"]),
        (vec![nan, bias()], vec!["holds NaN"]),
    ] {
        let error = graph(&text, vec![layer("l", blobs)]).unwrap_err();
        says(
            &error,
            &[&["model.prototxt", "'l' (Convolution)"], parts.as_slice()].concat(),
        );
    }
    let other = graph(&text, vec![layer("other", vec![good()])]).unwrap_err();
    says(&other, &["'l' (Convolution)", "holds 0 blobs"]);
    says(
        &refused(&text),
        &["'l' (Convolution)", "it needs weights", "--weights"],
    );

    let read = |bytes: &[u8]| {
        let model = read(text.as_bytes(), Some(bytes), &Limits::default());
        model.map(|_| ()).unwrap_err().to_string()
    };
    let twice = caffemodel(vec![layer("l", vec![good()]), layer("l", vec![good()])]);
    says(
        &read(&twice),
        &["model.caffemodel", "two layers are named 'l'"],
    );
    let old = NetParameter {
        layers: vec![V1LayerParameter {}],
        ..NetParameter::default()
    };
    says(&read(&old.encode_to_vec()), &["model.caffemodel", "V1"]);
    says(&read(b"\x89HDF\r\n\x1a\n"), &["model.caffemodel", "HDF5"]);
    says(&read(b"not a protobuf"), &["model.caffemodel"]);
    says(&read(b""), &["model.caffemodel", "no layer with weights"]);
    // Two bytes a message on disk, a hundred in memory.
    let many = [0xa2, 0x06, 0x00].repeat(10_000_000);
    says(&read(&many), &["model.caffemodel", "messages"]);

    let norm = behind(&[1, 2], &one("BatchNorm", ""));
    let pair = |a: f32| blob(&[2], &[a, a]);
    let blobs = vec![pair(1.0), pair(-1.0), blob(&[1], &[1.0])];
    says(
        &graph(&norm, vec![layer("l", blobs)]).unwrap_err(),
        &["'l' (BatchNorm)", "variance"],
    );
}
