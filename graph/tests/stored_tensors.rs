//! Tensors that the file stores: every element type, inside and outside the file.

mod common;

use std::collections::BTreeMap;
use std::fs;

use align_check_graph::onnx::proto::TensorProto;
use align_check_graph::onnx::proto::tensor_proto::{DataLocation, DataType};
use align_check_graph::{Constant, Limits, Model};
use common::{Build, entry, says};
use prost::bytes::Bytes;

/// The contents of a tensor, through a model that returns it.
fn stored(tensor: TensorProto) -> Result<Constant, String> {
    let name = tensor.name.clone().unwrap();
    let build = Build::new(13).tensor(tensor).output(&name);
    let graph = build.load().map_err(|e| e.to_string())?;
    Ok((**graph.value(graph.outputs[0]).constant.as_ref().unwrap()).clone())
}

fn raw(kind: DataType, dims: &[i64], bytes: &[u8]) -> TensorProto {
    TensorProto {
        name: Some("w".to_owned()),
        dims: dims.to_vec(),
        data_type: Some(kind as i32),
        raw_data: Some(Bytes::copy_from_slice(bytes)),
        ..Default::default()
    }
}

#[test]
fn element_types() {
    let whole = |values: &[i64]| Ok(Constant::I64(values.to_vec()));
    let reals = |values: &[f32]| Ok(Constant::F32(values.to_vec()));
    assert_eq!(
        stored(raw(DataType::Float, &[1], &1.5f32.to_le_bytes())),
        reals(&[1.5])
    );
    assert_eq!(
        stored(raw(DataType::Double, &[], &0.1f64.to_le_bytes())),
        reals(&[0.1])
    );
    assert_eq!(
        stored(raw(DataType::Float16, &[2], &[0x00, 0x3c, 0x01, 0x00])),
        reals(&[1.0, 2f32.powi(-24)])
    );
    assert_eq!(
        stored(raw(DataType::Bfloat16, &[1], &[0x80, 0xbf])),
        reals(&[-1.0])
    );
    assert_eq!(
        stored(raw(DataType::Int8, &[2], &[0xff, 0x7f])),
        whole(&[-1, 127])
    );
    assert_eq!(
        stored(raw(DataType::Uint8, &[2], &[0xff, 0x7f])),
        whole(&[255, 127])
    );
    assert_eq!(
        stored(raw(DataType::Int16, &[1], &[0xfe, 0xff])),
        whole(&[-2])
    );
    assert_eq!(
        stored(raw(DataType::Uint16, &[1], &[0xfe, 0xff])),
        whole(&[65534])
    );
    assert_eq!(
        stored(raw(DataType::Int32, &[1], &(-3i32).to_le_bytes())),
        whole(&[-3])
    );
    assert_eq!(
        stored(raw(DataType::Uint32, &[1], &u32::MAX.to_le_bytes())),
        whole(&[4_294_967_295])
    );
    assert_eq!(
        stored(raw(DataType::Int64, &[1], &i64::MIN.to_le_bytes())),
        whole(&[i64::MIN])
    );
    assert_eq!(
        stored(raw(DataType::Uint64, &[1], &7u64.to_le_bytes())),
        whole(&[7])
    );
    assert_eq!(stored(raw(DataType::Bool, &[2], &[0, 2])), whole(&[0, 1]));
    assert_eq!(
        stored(raw(DataType::Int4, &[3], &[0xf1, 0x08])),
        whole(&[1, -1, -8])
    );
    assert_eq!(
        stored(raw(DataType::Uint4, &[3], &[0xf1, 0x08])),
        whole(&[1, 15, 8])
    );
    assert_eq!(
        stored(raw(DataType::Int2, &[4], &[0b11_10_01_00])),
        whole(&[0, 1, -2, -1])
    );
    let fields = |kind: DataType, dims: &[i64], values: &[i32]| {
        let tensor = raw(kind, dims, &[]);
        stored(TensorProto {
            raw_data: None,
            int32_data: values.to_vec(),
            ..tensor
        })
    };
    assert_eq!(fields(DataType::Int8, &[2], &[-1, 5]), whole(&[-1, 5]));
    assert_eq!(fields(DataType::Uint8, &[1], &[200]), whole(&[200]));
    assert_eq!(fields(DataType::Float16, &[1], &[0x3c00]), reals(&[1.0]));
    assert_eq!(fields(DataType::Bfloat16, &[1], &[0x3f80]), reals(&[1.0]));
    assert_eq!(
        fields(DataType::Uint4, &[3], &[0xf1, 0x08]),
        whole(&[1, 15, 8])
    );
    assert_eq!(fields(DataType::Bool, &[2], &[0, 1]), whole(&[0, 1]));
    says(
        &fields(DataType::Int8, &[1], &[200]).unwrap_err(),
        &["200", "INT8"],
    );
    says(
        &fields(DataType::Int32, &[2], &[1]).unwrap_err(),
        &["1 numbers", "needs 2"],
    );
    says(
        &stored(raw(DataType::Float, &[2], &[0; 7])).unwrap_err(),
        &["'w'", "7 bytes", "needs 8"],
    );
    says(
        &stored(raw(DataType::Int4, &[3], &[0; 3])).unwrap_err(),
        &["3 bytes", "needs 2"],
    );
    says(
        &stored(raw(DataType::Uint64, &[1], &u64::MAX.to_le_bytes())).unwrap_err(),
        &["2^63"],
    );
    says(
        &stored(raw(DataType::Complex64, &[1], &[0; 8])).unwrap_err(),
        &["COMPLEX64"],
    );
    // Unread tensors of other types do no harm.
    let idle = Build::xy(13, &[2]).tensor(raw(DataType::Float8e4m3fn, &[1], &[0]));
    idle.clone().node("Relu", &["x"], &["y"], &[]).graph();
    says(
        &idle.node("Add", &["x", "w"], &["y"], &[]).unsupported(),
        &["'w'", "FLOAT8E4M3FN"],
    );
}

/// A model whose weight lies in another file, and what comes of it.
fn external(location: &str, offset: &str, length: &str) -> Result<Constant, String> {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("models");
    fs::create_dir_all(folder.join("data")).unwrap();
    let bytes: Vec<u8> = [1.0f32, 2.0, 3.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    fs::write(folder.join("data/weights.bin"), &bytes).unwrap();
    fs::write(outer.path().join("secret.bin"), &bytes).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(outer.path().join("secret.bin"), folder.join("link.bin"))
            .unwrap();
        std::os::unix::fs::symlink("data/weights.bin", folder.join("inside.bin")).unwrap();
    }
    let mut external_data = vec![entry("location", location)];
    external_data.extend((!offset.is_empty()).then(|| entry("offset", offset)));
    external_data.extend((!length.is_empty()).then(|| entry("length", length)));
    let tensor = TensorProto {
        name: Some("w".to_owned()),
        dims: vec![2],
        data_type: Some(DataType::Float as i32),
        data_location: Some(DataLocation::External as i32),
        external_data,
        ..Default::default()
    };
    let build = Build::new(13).tensor(tensor).output("w");
    let path = folder.join("model.onnx");
    fs::write(&path, build.bytes()).unwrap();
    let graph = Model::read(&path, &Limits::default())
        .and_then(|model| model.graph(&BTreeMap::default()))
        .map_err(|e| e.to_string())?;
    Ok((**graph.value(graph.outputs[0]).constant.as_ref().unwrap()).clone())
}

#[test]
fn external_data() {
    let two = |a, b| Ok(Constant::F32(vec![a, b]));
    assert_eq!(external("data/weights.bin", "4", "8"), two(2.0, 3.0));
    assert_eq!(external("./data/weights.bin", "4", ""), two(2.0, 3.0));
    let fails = |location: &str, offset: &str, length: &str, words: &[&str]| {
        let message = external(location, offset, length).unwrap_err();
        says(&message, words);
        assert!(!message.contains('\n'), "{message}");
    };
    fails(
        "../secret.bin",
        "0",
        "8",
        &["'w'", "inside the model's folder"],
    );
    fails(
        "data/../../secret.bin",
        "0",
        "8",
        &["inside the model's folder"],
    );
    fails("/etc/hostname", "0", "8", &["inside the model's folder"]);
    fails(
        "data\\weights.bin",
        "0",
        "8",
        &["inside the model's folder"],
    );
    fails("", "0", "8", &["location"]);
    fails("data", "0", "8", &["no regular file"]);
    fails("none\n.bin", "0", "8", &["inside the model's folder"]);
    fails("none.bin", "0", "8", &["none.bin", "external data"]);
    fails("data/weights.bin", "8", "8", &["past the end"]);
    fails(
        "data/weights.bin",
        "18446744073709551615",
        "8",
        &["past the end"],
    );
    fails("data/weights.bin", "0", "4", &["gives 4 bytes", "needs 8"]);
    fails("data/weights.bin", "-1", "8", &["offset '-1'"]);
    #[cfg(unix)]
    {
        assert_eq!(external("inside.bin", "0", "8"), two(1.0, 2.0));
        fails("link.bin", "0", "8", &["out of the model's folder"]);
    }
}
