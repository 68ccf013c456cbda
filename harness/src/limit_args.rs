//! How much files may ask for: arguments of every verb that reads a model.

use align_check_graph::Limits;
use clap::Args;

/// Bounds on files. What is not given is [`Limits::default`].
#[derive(Debug, Clone, Default, Args)]
#[allow(clippy::struct_field_names, reason = "the arguments' names")]
pub struct LimitArgs {
    /// Largest file that is read [default: 4GiB]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = HEADING, hide_short_help = true)]
    max_file_size: Option<u64>,

    /// Memory that one file may ask for: the tensors of one sample, constants that are folded, the arrays of an archive
    /// [default: 512MiB, or 64 times the file's size where that is more]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = HEADING, hide_short_help = true)]
    max_memory: Option<u64>,

    /// Largest number of elements of one tensor [default: 268435456]
    #[arg(long, value_name = "N", help_heading = HEADING, hide_short_help = true)]
    max_elements: Option<usize>,

    /// Largest number of elements of all stored constants together [default: 1073741824]
    #[arg(long, value_name = "N", help_heading = HEADING, hide_short_help = true)]
    max_constants: Option<usize>,

    /// Largest number of nodes [default: 100000]
    #[arg(long, value_name = "N", help_heading = HEADING, hide_short_help = true)]
    max_nodes: Option<usize>,

    /// Largest number of axes of a tensor [default: 16]
    #[arg(long, value_name = "N", help_heading = HEADING, hide_short_help = true)]
    max_rank: Option<usize>,

    /// How deep messages and elements of text files may be nested, at most 1000 [default: 64]
    #[arg(long, value_name = "N", value_parser = depth, help_heading = HEADING, hide_short_help = true)]
    max_depth: Option<usize>,
}

const HEADING: &str = "Limits (sizes as 512MiB, 8G or bytes)";

impl LimitArgs {
    /// The limits, with defaults where none is given.
    pub fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits {
            file_bytes: self.max_file_size.unwrap_or(default.file_bytes),
            tensor_elements: self.max_elements.unwrap_or(default.tensor_elements),
            constant_elements: self.max_constants.unwrap_or(default.constant_elements),
            nodes: self.max_nodes.unwrap_or(default.nodes),
            rank: self.max_rank.unwrap_or(default.rank),
            depth: self.max_depth.unwrap_or(default.depth),
            memory_bytes: self.max_memory,
        }
    }
}

/// Deeper, and the stack would end before the limit.
fn depth(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(depth @ 1..=1000) => Ok(depth),
        _ => Err("a number from 1 to 1000".to_owned()),
    }
}

/// `1048576`, `512M`, `512MiB`, `8GB`: units are powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("a size such as 512MiB, 8G or a number of bytes".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "a size such as 512MiB, 8G or a number of bytes".to_owned())?;
    number
        .checked_mul(1 << shift)
        .filter(|&bytes| bytes > 0)
        .ok_or_else(|| "a size from 1 byte to 16 EiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("1", 1),
            ("512M", 512 << 20),
            ("512MiB", 512 << 20),
            ("8GB", 8 << 30),
            ("2 k", 2048),
            ("3t", 3 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "1.5G",
            "1X",
            "0",
            "99999999999999999999",
            "99999999T",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(depth("1000"), Ok(1000));
        assert!(depth("1001").is_err());
    }
}
