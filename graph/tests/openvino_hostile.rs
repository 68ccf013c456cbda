//! IRs that are damaged or mean harm end in a one-line error that names the file.

mod common;
mod openvino_writer;

use std::collections::BTreeMap;

use align_check_graph::{Error, Limits, Model};
use common::says;
use common::support;
use openvino_writer::{Ir, Out, read};
use proptest::prelude::*;

/// Weights, a convolution, a bias, a quantizer.
fn small() -> Ir {
    let mut ir = Ir::new();
    let x = ir.parameter("x", &[1, 2, 4]);
    let w = ir.i8s("w", &[2, 2, 1], &[1, -2, 3, -4]);
    let w = ir.layer(
        "Convert",
        "w/f32",
        r#"destination_type="f32""#,
        &[w],
        &[2, 2, 1],
    );
    let s = ir.f32s("s", &[2, 1, 1], &[0.5, 0.25]);
    let w = ir.layer("Multiply", "w/scaled", "", &[w, s], &[2, 2, 1]);
    let window = r#"strides="1" dilations="1" pads_begin="0" pads_end="0""#;
    let conv = ir.layer("Convolution", "conv", window, &[x, w], &[1, 2, 4]);
    let b = ir.f32s("b", &[1, 2, 1], &[1.0, 2.0]);
    let y = ir.layer("Add", "sum", "", &[conv, b], &[1, 2, 4]);
    let y = ir.fake_quantize(y, "y", 256, [-12.8, 12.7], &[1, 2, 4]);
    ir.result(y, "y");
    ir
}

/// Loads whatever the files are; an error must be one line that names one of them.
fn survive(xml: &[u8], bin: Option<&[u8]>) {
    support::survive("model.", |limits| read(xml, bin, limits));
}

/// The error of a document with something replaced.
#[track_caller]
fn replaced(from: &str, to: &str) -> String {
    let ir = small();
    let xml = ir.xml();
    assert!(xml.contains(from), "'{from}' is not in it");
    error(&xml.replacen(from, to, 1), Some(&ir.bin))
}

#[track_caller]
fn error(xml: &str, bin: Option<&[u8]>) -> String {
    let result = read(xml.as_bytes(), bin, &Limits::default());
    let message = result
        .and_then(|model| model.graph(&BTreeMap::default()))
        .expect_err("a model that must not load")
        .to_string();
    assert!(!message.contains(['\n', '\r']), "{message:?}");
    assert!(message.contains("model."), "{message}");
    message
}

#[test]
fn truncated_at_every_length() {
    let ir = small();
    ir.graph();
    let xml = ir.xml();
    for length in (0..xml.len()).step_by(2) {
        survive(&xml.as_bytes()[..length], Some(&ir.bin));
    }
    for length in 0..ir.bin.len() {
        let message = error(&xml, Some(&ir.bin[..length]));
        says(
            &message,
            &["model.xml", "(Const)", "go past the end of 'model.bin'"],
        );
    }
    let missing = read(xml.as_bytes(), None, &Limits::default());
    assert!(matches!(missing, Err(Error::Io { .. })), "{missing:?}");
    says(&missing.unwrap_err().to_string(), &["model.bin"]);
}

#[test]
fn changed_bytes() {
    let ir = small();
    let xml = ir.xml().into_bytes();
    for (at, change) in (0..xml.len())
        .step_by(3)
        .zip([0x01, 0x10, 0x80].iter().cycle())
    {
        let mut xml = xml.clone();
        xml[at] ^= change;
        survive(&xml, Some(&ir.bin));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn several_changes(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let ir = small();
        let mut xml = ir.xml().into_bytes();
        for (at, value) in changes {
            let at = at.index(xml.len());
            xml[at] = value;
        }
        survive(&xml, Some(&ir.bin));
    }

    #[test]
    fn random_text(text in "<net[ -~]{0,200}") {
        survive(text.as_bytes(), None);
    }
}

#[test]
fn no_ir() {
    says(
        &error("<?xml version=\"1.0\"?><svg/>", None),
        &["no OpenVINO IR"],
    );
    says(&error("<?xml", None), &["no XML"]);
    says(&error("<net version=\"11\">", None), &["truncated"]);
    says(
        &error("<net version=\"11\"/>", None),
        &["no layer of type Result"],
    );
    says(&error("<net version=\"7\"/>", None), &["version '7'"]);
    says(&error("<net></wrong>", None), &["no XML at byte"]);
    // The same file under another name stays what it is.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, small().xml()).unwrap();
    std::fs::write(folder.path().join("model.bin"), small().bin).unwrap();
    let model = Model::read(&path, &Limits::default()).unwrap();
    assert_eq!(model.format(), "openvino");
}

#[test]
fn entities_are_not_expanded() {
    let laughs = "<?xml version=\"1.0\"?><!DOCTYPE net [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><net name=\"&b;\" version=\"11\"/>";
    says(&error(laughs, None), &["document type"]);
    let outside = "<!DOCTYPE net [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><net name=\"&x;\" version=\"11\"/>";
    // Without the declaration first it is no XML file of ours at all.
    assert!(read(outside.as_bytes(), None, &Limits::default()).is_err());
    says(
        &replaced("name=\"conv\"", "name=\"&own;\""),
        &["attribute 'name' is damaged"],
    );
}

#[test]
fn a_million_levels() {
    let mut xml = "<net version=\"11\">".to_owned();
    xml.push_str(&"<a>".repeat(1_000_000));
    says(&error(&xml, None), &["nested deeper than"]);
    let mut xml = "<net version=\"11\"><layers>".to_owned();
    xml.push_str(&"<layer id=\"0\" type=\"ReLU\">".repeat(1_000_000));
    says(&error(&xml, None), &["nested deeper than"]);
}

#[test]
fn many_of_everything() {
    let few = Limits {
        nodes: 10,
        ..Limits::default()
    };
    let layer = |id: usize| format!("<layer id=\"{id}\" type=\"ReLU\"/>");
    let layers: String = (0..100).map(layer).collect();
    let xml = format!("<net version=\"11\"><layers>{layers}</layers></net>");
    let message = read(xml.as_bytes(), None, &few).unwrap_err().to_string();
    says(&message, &["more layers than"]);
    let edge = "<edge from-layer=\"0\" from-port=\"0\" to-layer=\"0\" to-port=\"0\"/>";
    let xml = format!(
        "<net version=\"11\"><edges>{}</edges></net>",
        edge.repeat(1000)
    );
    says(
        &read(xml.as_bytes(), None, &few).unwrap_err().to_string(),
        &["edges"],
    );
    let ports = "<port id=\"0\"/>".repeat(20_000);
    let xml = format!(
        "<net version=\"11\"><layers><layer id=\"0\" type=\"R\"><input>{ports}</input></layer></layers></net>"
    );
    says(&error(&xml, None), &["ports"]);
    let attributes: Vec<String> = (0..1000).map(|i| format!("a{i}=\"\"")).collect();
    says(
        &error(
            &format!("<net version=\"11\" {}/>", attributes.join(" ")),
            None,
        ),
        &["more than 100 attributes"],
    );
    let dims = "<dim>1</dim>".repeat(1000);
    says(&replaced("<dim>1</dim>", &dims), &["axes"]);
}

#[test]
fn ids_and_edges() {
    says(
        &replaced("layer id=\"1\"", "layer id=\"0\""),
        &["two layers have the id '0'"],
    );
    says(&replaced("layer id=\"1\"", "layer"), &["no attribute 'id'"]);
    says(
        &replaced("from-layer=\"1\"", "from-layer=\"99\""),
        &["layer '99', which does not exist"],
    );
    says(
        &replaced(
            "from-layer=\"1\" from-port=\"0\"",
            "from-layer=\"1\" from-port=\"7\"",
        ),
        &["output port '7' of layer 'w'"],
    );
    says(
        &replaced(
            "to-layer=\"2\" to-port=\"0\"",
            "to-layer=\"2\" to-port=\"7\"",
        ),
        &["input port '7' of layer 'w/f32'"],
    );
    says(
        &replaced(
            "<edge from-layer=\"1\" from-port=\"0\" to-layer=\"2\" to-port=\"0\"/>",
            "",
        ),
        &["no edge leads to port '0' of layer 'w/f32' (Convert)"],
    );
    let twice = small();
    let edge = "<edge from-layer=\"1\" from-port=\"0\" to-layer=\"2\" to-port=\"0\"/>";
    let xml = twice.xml().replacen(edge, &edge.repeat(2), 1);
    says(
        &error(&xml, Some(&twice.bin)),
        &["two edges lead to port '0'"],
    );
    says(
        &replaced(
            "id=\"0\" precision=\"FP32\"/></input>",
            "id=\"0\"/><port id=\"0\"/></input>",
        ),
        &["two input ports with the id '0'"],
    );
    says(
        &replaced("name=\"conv\"", "name=\"conv\" name=\"a\""),
        &["'name' is given twice"],
    );
    let mut cycle = Ir::new();
    let x = cycle.parameter("x", &[1]);
    let a = cycle.layer("Add", "a", "", &[x, Out(2, 1)], &[1]);
    let b = cycle.layer("ReLU", "b", "", &[a], &[1]);
    cycle.result(b, "");
    says(&cycle.error(), &["node 'a' (Add)", "cycle"]);
}

#[test]
fn constants() {
    says(
        &replaced("offset=\"0\"", "offset=\"1000000\""),
        &["'w' (Const)", "past the end"],
    );
    says(
        &replaced("offset=\"0\"", "offset=\"18446744073709551615\""),
        &["'w' (Const)", "past the end"],
    );
    says(
        &replaced("offset=\"0\"", "offset=\"-4\""),
        &["offset '-4' is no number"],
    );
    says(&replaced("offset=\"0\"", ""), &["'offset' is missing"]);
    says(
        &replaced("size=\"4\"", "size=\"18446744073709551615\""),
        &["'w' (Const)", "past the end"],
    );
    says(
        &replaced("size=\"4\"", "size=\"3\""),
        &["gives 3 bytes, the tensor needs 4"],
    );
    says(
        &replaced("element_type=\"i8\"", "element_type=\"f64\""),
        &["needs 32"],
    );
    says(
        &replaced("element_type=\"i8\"", "element_type=\"nf4\""),
        &["tensor 'w'", "element type 'nf4'"],
    );
    says(
        &replaced("shape=\"2,2,1\"", "shape=\"2,two\""),
        &["no list of numbers"],
    );
    says(
        &replaced(
            "shape=\"2,2,1\"",
            "shape=\"4294967296,4294967296,4294967296\"",
        ),
        &["'w' (Const)", "elements, the limit"],
    );
    says(
        &replaced("shape=\"2,2,1\"", "shape=\"-2,2,1\""),
        &["negative extent"],
    );
    let axes = vec!["1"; 100].join(",");
    says(
        &replaced("shape=\"2,2,1\"", &format!("shape=\"{axes}\"")),
        &["100 axes"],
    );
}

#[cfg(unix)]
#[test]
fn the_bin_file_is_no_way_out() {
    let ir = small();
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(folder.path().join("secret"), &ir.bin).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), inside.join("model.bin")).unwrap();
    let path = inside.join("model.xml");
    std::fs::write(&path, ir.xml()).unwrap();
    let message = Model::read(&path, &Limits::default())
        .unwrap_err()
        .to_string();
    says(&message, &["leads out of the model's folder"]);
}

#[test]
fn shapes_that_contradict_the_layers() {
    let mut ir = Ir::new();
    let x = ir.parameter("x", &[1, 4]);
    let y = ir.layer("ReLU", "y", "", &[x], &[1, 5]);
    ir.result(y, "");
    says(
        &ir.error(),
        &["'y' (ReLU)", "shape [1, 4]", "the file says [1, 5]"],
    );
    let mut huge = Ir::new();
    let x = huge.parameter("x", &[1 << 40, 1 << 40]);
    let y = huge.layer("ReLU", "y", "", &[x], &[]);
    huge.result(y, "");
    says(&huge.error(), &["input 'x'", "elements, the limit"]);
    says(
        &replaced("strides=\"1\"", "strides=\"0\""),
        &["'conv' (Convolution)", "strides"],
    );
    says(
        &replaced("strides=\"1\"", "strides=\"99999999999999999999\""),
        &["'strides'", "no list"],
    );
    says(
        &replaced("pads_begin=\"0\"", "pads_begin=\"9223372036854775807\""),
        &["'conv' (Convolution)", "pads"],
    );
}
