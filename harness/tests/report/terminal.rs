//! The report at a terminal.

use align_check::report;
use unicode_width::UnicodeWidthStr as _;

use crate::sample;

#[test]
fn text_at_every_size() {
    insta::assert_snapshot!("wide", report::terminal(&sample::one(), 160, false, 0));
    insta::assert_snapshot!("narrow", report::terminal(&sample::one(), 80, false, 0));
    insta::assert_snapshot!("verbose", report::terminal(&sample::two(), 120, false, 1));
    insta::assert_snapshot!("least", report::terminal(&sample::least(), 80, false, 0));
    insta::assert_snapshot!("many", report::terminal(&sample::many(), 100, false, 0));
    insta::assert_snapshot!(
        "infinite",
        report::terminal(&sample::infinite(), 100, false, 0)
    );
}

#[test]
fn no_line_is_wider_than_the_terminal_and_nothing_escapes() {
    for outcome in [
        sample::one(),
        sample::two(),
        sample::least(),
        sample::many(),
        sample::infinite(),
    ] {
        for width in (60..=200).chain([500]) {
            for verbose in 0..=2 {
                let text = report::terminal(&outcome, width, false, verbose);
                for line in text.lines() {
                    assert!(line.width() <= width, "{width}, {}: {line}", line.width());
                    assert!(!line.ends_with(' '), "{line:?}");
                    assert!(!line.chars().any(char::is_control), "{line:?}");
                }
            }
        }
    }
}

#[test]
fn color_changes_nothing_but_color() {
    for outcome in [sample::two(), sample::many()] {
        for width in [60, 80, 120, 200] {
            let plain = report::terminal(&outcome, width, false, 1);
            let colored = report::terminal(&outcome, width, true, 1);
            assert_ne!(plain, colored);
            assert_eq!(plain, without_color(&colored));
        }
    }
}

fn without_color(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part
            .split_once('m')
            .expect("only colours start with an escape");
        assert!(
            code.chars().all(|c| c.is_ascii_digit() || c == ';'),
            "{code:?}"
        );
        out.push_str(rest);
    }
    out
}

#[test]
fn a_verdict_line_for_each_target() {
    let lines = report::verdict_lines(&sample::two(), false);
    assert_eq!(lines.lines().count(), 2);
    assert!(
        lines.starts_with("nnie: MISALIGNED: 14 of 20 layers differ; first: conv1 (Conv+Relu)")
    );
}
