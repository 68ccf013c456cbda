//! Numbers and names as people read them.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count and its noun: `1 layer`, `1,234 layers`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {noun}{s}", thousands(number as u64))
}

/// A share in percent that is never rounded to 0 or to 100.
pub(crate) fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    if !percent.is_finite() {
        "?".to_owned()
    } else if percent <= 0.0 {
        "0 %".to_owned()
    } else if percent >= 100.0 {
        "100 %".to_owned()
    } else if percent < 0.01 {
        "<0.01 %".to_owned()
    } else if percent < 1.0 {
        format!("{percent:.2} %")
    } else if percent < 99.95 {
        format!("{percent:.1} %")
    } else {
        ">99.9 %".to_owned()
    }
}

/// A number of any size: whole numbers with separators, others with about four digits.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        return "NaN".to_owned();
    }
    let sign = if value < 0.0 { "-" } else { "" };
    if size.is_infinite() {
        format!("{sign}inf")
    } else if size.fract() == 0.0 && size < 1e15 {
        format!("{sign}{}", thousands(size as u64))
    } else if (1e4..1e15).contains(&size) {
        format!("{sign}{}", thousands(size.round() as u64))
    } else if (1e-2..1e4).contains(&size) {
        let decimals = if size < 1.0 { 4 } else { 3 };
        let text = format!("{value:.decimals$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{value:.1e}")
    }
}

/// Bytes in the unit that fits.
pub(crate) fn bytes(bytes: usize) -> String {
    let mut size = bytes as f64;
    for unit in ["bytes", "KiB", "MiB"] {
        if size < 1024.0 {
            let decimals = usize::from(unit != "bytes");
            return format!("{size:.decimals$} {unit}");
        }
        size /= 1024.0;
    }
    format!("{size:.1} GiB")
}

/// Makes every character visible: control characters, and those that reorder or hide text, are escaped.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fffe}'
                | '\u{ffff}'
        )
}

/// Columns that a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Shortens a text in its middle to `columns`.
pub(crate) fn middle(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    if columns < 2 {
        return "…".repeat(columns);
    }
    let tail_columns = (columns - 1) / 2;
    let mut tail: Vec<char> = Vec::new();
    let mut used = 0;
    for c in text.chars().rev() {
        used += c.width().unwrap_or(0);
        if used > tail_columns {
            break;
        }
        tail.push(c);
    }
    let tail: String = tail.into_iter().rev().collect();
    let mut out = head(text, columns - 1 - width(&tail)).to_owned();
    out.push('…');
    out.push_str(&tail);
    out
}

/// The longest start of a text that fits.
fn head(text: &str, columns: usize) -> &str {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > columns {
            return &text[..at];
        }
    }
    text
}

/// Pads a text with spaces: on the left where it is a number.
pub(crate) fn pad(text: &str, columns: usize, right: bool) -> String {
    let space = " ".repeat(columns.saturating_sub(width(text)));
    if right {
        format!("{space}{text}")
    } else {
        format!("{text}{space}")
    }
}

/// Breaks a text at spaces into lines; words that are too long are cut.
pub(crate) fn wrap(text: &str, first: usize, rest: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut word = word;
        loop {
            let columns = if lines.is_empty() { first } else { rest }.max(1);
            let gap = usize::from(!line.is_empty());
            if width(&line) + gap + width(word) <= columns {
                if gap == 1 {
                    line.push(' ');
                }
                line.push_str(word);
                break;
            }
            if line.is_empty() {
                // At least one character a line, however narrow it is.
                let one = word.chars().next().map_or(1, char::len_utf8);
                let (start, end) = word.split_at(head(word, columns).len().max(one));
                lines.push(start.to_owned());
                word = end;
                if word.is_empty() {
                    break;
                }
            } else {
                lines.push(std::mem::take(&mut line));
            }
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// A bar of Unicode blocks; whatever is not zero shows.
pub(crate) fn bar(share: f64, cells: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if share.is_nan() || share <= 0.0 {
        return String::new();
    }
    let eighths = ((share.min(1.0) * cells as f64 * 8.0).round() as usize).max(1);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// Text of HTML and XML, in elements and in quoted attributes.
pub(crate) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(9_375_627), "9,375,627");
        assert_eq!(percent(8.0 / 9_375_627.0), "<0.01 %");
        assert_eq!(percent(0.999_999), ">99.9 %");
        assert_eq!(percent(386_946.0 / 9_375_627.0), "4.1 %");
        assert_eq!(number(-12345.0), "-12,345");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(37.5), "37.5");
        assert_eq!(number(1.4e-5), "1.4e-5");
        assert_eq!(number(f64::NAN), "NaN");
        assert_eq!(number(f64::NEG_INFINITY), "-inf");
        assert_eq!(bytes(3 << 20), "3.0 MiB");
    }

    #[test]
    fn texts() {
        assert_eq!(
            visible("a\u{1b}[31m\u{202e}b\u{9b}"),
            "a\\u{1b}[31m\\u{202e}b\\u{9b}"
        );
        assert_eq!(middle("features.denseblock4.conv2", 12), "featur…conv2");
        assert_eq!(middle("层层层层", 5), "层…层");
        assert_eq!(middle("abc", 1), "…");
        assert_eq!(bar(1e-9, 6), "▏");
        assert_eq!(bar(1.0, 6), "██████");
        assert_eq!(bar(0.0, 6), "");
        assert_eq!(
            xml("<a b='c'>&\u{1b}"),
            "&lt;a b=&#39;c&#39;&gt;&amp;\\u{1b}"
        );
    }

    #[test]
    fn wrapped_lines_fit() {
        let text = "one two threeeeeeeeeeeeeeeeeeee 层层层层层层层 four";
        for columns in 1..40 {
            for line in wrap(text, columns, columns.max(3)) {
                assert!(width(&line) <= columns.max(3), "{columns}: {line}");
            }
        }
        assert_eq!(wrap("", 10, 10), [""]);
        assert_eq!(wrap("aa bb cc", 5, 2), ["aa bb", "cc"]);
    }
}
