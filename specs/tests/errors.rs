//! Broken specs, and the one line that each of them gives.

use std::fs;

use align_check_specs::{Error, MAX_FILE_BYTES, Spec, embedded_toml, names};

/// One edit of an embedded target, and what it gives.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    target: String,
    from: String,
    to: String,
    error: String,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

const ROUNDINGS: &str = "half-even, half-away, half-up, half-down, half-toward-zero, \
half-up-if-negative-else-half-even, floor, ceil, trunc, away";

#[test]
fn every_broken_spec_gives_its_line() {
    let mut failures = Vec::new();
    let cases: Cases = toml::from_str(include_str!("errors-cases.toml")).expect("the cases");
    assert!(cases.case.len() >= 83);
    for case in cases.case {
        let text = embedded_toml(&case.target).expect("an embedded target");
        assert!(
            text.contains(&case.from),
            "{}: no {}",
            case.target,
            case.from
        );
        let before = text.split(&case.from).next().unwrap_or_default();
        let line = 1 + before.matches('\n').count();
        let text = text.replacen(&case.from, &case.to, 1);
        let got = match Spec::parse(&text, "my.toml") {
            Ok(_) => "no error".to_owned(),
            Err(error) => error.to_string(),
        };
        let want = with_line(&case.error.replace("ROUNDINGS", ROUNDINGS), line);
        if got != want {
            failures.push(format!(
                "{} -> {}\n  want {want}\n  got  {got}",
                case.from, case.to
            ));
        }
        assert!(!got.contains('\n'), "{got}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// `LINE`, `LINE+1`, ...: counted from where the text was changed.
fn with_line(error: &str, line: usize) -> String {
    let Some((head, rest)) = error.split_once("LINE") else {
        return error.to_owned();
    };
    let (offset, tail) = rest.split_once(':').expect("a line ends with a colon");
    let offset: isize = offset.parse().unwrap_or(0);
    format!("{head}{}:{tail}", line.saturating_add_signed(offset))
}

#[test]
fn an_unknown_target_lists_the_names() {
    let list = format!(
        "one of {}, or a path to a .toml file (see: align-check targets)",
        names().join(", ")
    );
    let error = |name: &str| Spec::resolve(name).expect_err("unknown").to_string();
    assert_eq!(error("coral"), format!("unknown target 'coral'; {list}"));
    assert_eq!(
        error("tensort"),
        format!("unknown target 'tensort', did you mean 'tensorrt'?; {list}")
    );
    assert_eq!(
        error("tflit"),
        format!("unknown target 'tflit', did you mean 'tflite'?; {list}")
    );
    assert_eq!(error(""), format!("unknown target ''; {list}"));
    assert_eq!(
        error("a\nb\u{1b}"),
        format!("unknown target 'a\\nb\\u{{1b}}'; {list}")
    );
}

#[test]
fn files_that_cannot_be_read_say_so() {
    let folder = std::env::temp_dir().join(format!("align-check-specs-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let path = |name: &str| folder.join(name).display().to_string();
    let error = |name: &str| Spec::resolve(&path(name)).expect_err("broken").to_string();

    let missing = error("missing.toml");
    assert!(
        missing.starts_with(&format!("{}: cannot read: ", path("missing.toml"))),
        "{missing}"
    );

    fs::write(
        path("large.toml"),
        vec![b'#'; usize::try_from(MAX_FILE_BYTES).expect("fits") + 1],
    )
    .expect("written");
    assert_eq!(
        error("large.toml"),
        format!(
            "{}: larger than 1 MiB; a spec is a small text file",
            path("large.toml")
        )
    );

    fs::write(path("bytes.toml"), b"name = \"x\"\n# \xff\n").expect("written");
    assert_eq!(
        error("bytes.toml"),
        format!("{}:2: not UTF-8", path("bytes.toml"))
    );

    fs::write(path("empty.toml"), b"").expect("written");
    assert_eq!(
        error("empty.toml"),
        format!("{}:1: missing field 'name'", path("empty.toml"))
    );

    let folder_error = Spec::resolve(&format!("{}/", folder.display()))
        .expect_err("a folder")
        .to_string();
    assert!(folder_error.contains("cannot read: "), "{folder_error}");
    fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_fine() {
    let text = embedded_toml("nnie").expect("nnie");
    let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(Spec::parse(&text, "nnie.toml"), Spec::resolve("nnie"));
    let error = Spec::parse(&text.replace("\"floor\"", "\"flor\""), "x").expect_err("broken");
    assert!(
        error
            .to_string()
            .starts_with("x:27: activations.range-rounding: unknown range-rounding 'flor'"),
        "{error}"
    );
}

#[test]
fn hostile_text_is_refused_quickly_and_on_one_line() {
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    let tables = "[a.b.c.d.e.f.g.h]\n".repeat(20_000);
    let long_key = format!("\"{}\" = [{}]", "k".repeat(400_000), "0,".repeat(200_000));
    let quotes = "name = \"`, expected one of `x`\"\nsummary = 1";
    let control = "\"a\\nb\\u001b[31m\" = 1";
    let nul = "name = \"\u{0}\"";
    for text in [
        deep.as_str(),
        &tables,
        &long_key,
        quotes,
        control,
        nul,
        "=",
        "[[evidence]]",
        "\u{0}",
    ] {
        let error = Spec::parse(text, "hostile\n.toml")
            .expect_err("broken")
            .to_string();
        assert!(!error.chars().any(char::is_control), "{error:?}");
        assert!(error.starts_with("hostile\\n.toml:"), "{error}");
        assert!(
            error.chars().count() < 1000,
            "{} characters",
            error.chars().count()
        );
    }
}

#[test]
fn errors_carry_their_line_as_data() {
    let text = embedded_toml("nnie")
        .expect("nnie")
        .replace("quantizer = \"gfpq\"", "quantizer = \"log\"");
    match Spec::parse(&text, "nnie.toml") {
        Err(Error::At {
            origin,
            line,
            reason,
        }) => {
            assert_eq!((origin.as_str(), line), ("nnie.toml", 23));
            assert!(
                reason.starts_with("activations.quantizer: unknown quantizer 'log'"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
}
