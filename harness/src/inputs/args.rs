//! How files become samples: arguments of every verb that takes inputs.

use clap::{Args, ValueEnum};

/// What happens to pictures and raw files, and how many samples are taken.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Inputs")]
pub struct PrepareArgs {
    /// Pictures: subtracted from each pixel (0 to 255); one number, or one a channel
    #[arg(long, value_name = "M[,M,M]", value_delimiter = ',', allow_hyphen_values = true, value_parser = ratio)]
    pub mean: Vec<f64>,

    /// Pictures: (pixel - mean) is MULTIPLIED by this (1/255, or 1/58.395,1/57.12,1/57.375); rounded once, to float32
    #[arg(long, value_name = "S[,S,S]", value_delimiter = ',', value_parser = ratio)]
    pub scale: Vec<f64>,

    /// Pictures: where the model has the channels, if its shape does not say
    #[arg(long, value_enum)]
    pub layout: Option<Layout>,

    /// Pictures: order of the channels (default: rgb)
    #[arg(long, value_enum)]
    pub color: Option<Color>,

    /// Pictures: resize to height x width; the whole picture, aspect ratio not kept, triangle filter (bilinear over the
    /// covered pixels). Without it a picture of another size is an error
    #[arg(long, value_name = "HxW", value_parser = size)]
    pub size: Option<(usize, usize)>,

    /// Raw files (.raw, .bin, files of a list): type of the numbers, little-endian
    #[arg(long, value_name = "TYPE", default_value = "float32")]
    pub raw_type: String,

    /// Only so many inputs: the first ones, or with --seed a random choice of them
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

impl Default for PrepareArgs {
    fn default() -> Self {
        Self {
            mean: Vec::new(),
            scale: Vec::new(),
            layout: None,
            color: None,
            size: None,
            raw_type: "float32".to_owned(),
            limit: None,
        }
    }
}

/// Where the channels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Batch, channels, height, width
    Nchw,
    /// Batch, height, width, channels
    Nhwc,
}

/// Order of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// Red, green, blue
    Rgb,
    /// Blue, green, red
    Bgr,
}

/// `0.5`, or `1/255`.
fn ratio(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().map_err(|e| e.to_string());
    let value = match text.split_once('/') {
        Some((above, below)) => number(above)? / number(below)?,
        None => number(text)?,
    };
    if value.is_finite() {
        Ok(value)
    } else {
        Err("is not finite".to_owned())
    }
}

/// `224x224`.
fn size(text: &str) -> Result<(usize, usize), String> {
    let wrong = || "expected HEIGHTxWIDTH, as 224x224".to_owned();
    let (height, width) = text.split_once(['x', 'X']).ok_or_else(wrong)?;
    let side = |text: &str| match text.trim().parse::<usize>() {
        Ok(side @ 1..=32768) => Ok(side),
        _ => Err(wrong()),
    };
    Ok((side(height)?, side(width)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_pictures() {
        assert_eq!(ratio("1/255"), Ok(1.0 / 255.0));
        assert_eq!(ratio("-127.5"), Ok(-127.5));
        assert!(ratio("1/0").is_err());
        assert!(ratio("x").is_err());
        assert_eq!(size("224x192"), Ok((224, 192)));
        assert!(size("224").is_err());
        assert!(size("0x4").is_err());
    }
}
