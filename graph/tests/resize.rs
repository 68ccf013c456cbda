//! Resampling tables, against recordings of ONNX Runtime.

mod common;

use align_check_graph::{Op, ResizeAxis};
use common::{Build, int, ints, says, text};

/// Every line of `resize/cases.txt` was computed by ONNX Runtime.
#[test]
fn resize_as_onnx_runtime() {
    let mut cases = 0;
    for line in include_str!("resize/cases.txt").lines() {
        let (case, recorded) = line.split_once(" : ").unwrap();
        let recorded: Vec<f32> = recorded.split(' ').map(|x| x.parse().unwrap()).collect();
        let [op, opset, mode, coordinates, nearest, extent, how, number] =
            case.split(' ').collect::<Vec<_>>()[..]
        else {
            panic!("{line}")
        };
        let opset: i64 = opset.parse().unwrap();
        let extent: usize = extent.parse().unwrap();
        let mut attrs = vec![text("mode", mode)];
        if coordinates != "-" {
            attrs.push(text("coordinate_transformation_mode", coordinates));
        }
        if nearest != "-" {
            attrs.push(text("nearest_mode", nearest));
        }
        let mut build = Build::xy(opset, &[1, 1, 1, extent as i64]);
        let inputs = if how == "scale" {
            build = build.f32s("p", &[4], &[1.0, 1.0, 1.0, number.parse().unwrap()]);
            if opset >= 11 {
                vec!["x", "", "p"]
            } else {
                vec!["x", "p"]
            }
        } else {
            build = build.i64s("p", &[1, 1, 1, number.parse().unwrap()]);
            vec!["x", "", "", "p"]
        };
        let (op, shape) = build.node(op, &inputs, &["y"], &attrs).op();
        assert_eq!(shape, [1, 1, 1, recorded.len()], "{case}");
        let square = |i: usize| (i * i) as f32;
        let Op::Resize(resize) = op else { panic!() };
        assert_eq!(
            resize.axes[..3],
            [ResizeAxis::Copy, ResizeAxis::Copy, ResizeAxis::Copy]
        );
        match &resize.axes[3] {
            ResizeAxis::Copy => assert_eq!(
                recorded,
                (0..extent).map(square).collect::<Vec<_>>(),
                "{case}"
            ),
            ResizeAxis::Nearest(table) => {
                let ours: Vec<f32> = table.iter().map(|&i| square(i)).collect();
                assert_eq!(recorded, ours, "{case}");
            }
            ResizeAxis::Linear(table) => {
                for (&(left, right, weight), want) in table.iter().zip(&recorded) {
                    let got = (1.0 - weight) * square(left) + weight * square(right);
                    assert!((got - want).abs() <= 1e-4, "{case}: {got} is not {want}");
                }
            }
        }
        cases += 1;
    }
    assert!(cases > 400);
}

#[test]
fn resize_parameters() {
    let build =
        Build::xy(18, &[1, 2, 4, 5])
            .i64s("z", &[8, 10])
            .f32s("s", &[4], &[1.0, 1.0, 2.0, 2.0]);
    let resize = |inputs: &[&str], attrs: &[_]| build.clone().node("Resize", inputs, &["y"], attrs);
    assert_eq!(
        resize(&["x", "", "", "z"], &[ints("axes", &[2, 3])]).op().1,
        [1, 2, 8, 10]
    );
    assert_eq!(
        resize(&["x", "", "", "z"], &[ints("axes", &[-1, -2])])
            .op()
            .1,
        [1, 2, 10, 8]
    );
    says(
        &resize(&["x", "", "s"], &[text("mode", "cubic")]).unsupported(),
        &["cubic"],
    );
    let crop = text("coordinate_transformation_mode", "tf_crop_and_resize");
    says(
        &resize(&["x", "", "s"], &[crop]).unsupported(),
        &["tf_crop_and_resize"],
    );
    says(
        &resize(
            &["x", "", "s"],
            &[text("mode", "linear"), int("antialias", 1)],
        )
        .unsupported(),
        &["antialias"],
    );
    let policy = [
        ints("axes", &[2, 3]),
        text("keep_aspect_ratio_policy", "not_larger"),
    ];
    says(
        &resize(&["x", "", "", "z"], &policy).unsupported(),
        &["not_larger"],
    );
    says(&resize(&["x"], &[]).malformed(), &["neither"]);
    says(&resize(&["x", "", "s", "z"], &[]).malformed(), &["both"]);
    says(
        &resize(&["x", "", "", "z"], &[]).malformed(),
        &["2 scales or sizes for 4 axes"],
    );
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let bad = Build::xy(13, &[1, 2]).f32s("s", &[2], &[1.0, scale]);
        says(
            &bad.node("Resize", &["x", "", "s"], &["y"], &[]).malformed(),
            &["not positive"],
        );
    }
    let tiny = Build::xy(13, &[1, 2]).f32s("s", &[2], &[1.0, 0.1]).node(
        "Resize",
        &["x", "", "s"],
        &["y"],
        &[],
    );
    says(&tiny.malformed(), &["no element"]);
    let upsample = Build::xy(7, &[1, 2]).node(
        "Upsample",
        &["x"],
        &["y"],
        &[common::floats("scales", &[1.0, 2.0])],
    );
    assert!(
        matches!(upsample.op().0, Op::Resize(r) if r.axes[1] == ResizeAxis::Nearest(vec![0, 0, 1, 1]))
    );
}
