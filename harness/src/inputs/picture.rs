//! Pictures as samples: PNG and JPEG.
//!
//! What happens between a file and the model's input is itself a source of misalignment, so each step is fixed:
//! decode to 8 bits a channel (alpha is dropped, an orientation in EXIF is not applied, no colour management), resize to
//! `--size` with the triangle filter of the crate `image` without keeping the aspect ratio, then
//! `(pixel - mean) * scale` in `f64`, rounded once to `f32`.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use align_check_graph::{InputInfo, Limits};
use anyhow::{Result, anyhow, bail};
use image::imageops::FilterType;
use image::{ColorType, DynamicImage, ImageDecoder as _, ImageFormat, ImageReader};

use super::args::{Color, Layout, PrepareArgs};
use super::{Array, ArrayKind, one_line};

/// What reading a picture takes, in decoded pictures: what the decoder holds of it (coefficients of 16 bits in a
/// progressive JPEG), the picture, and a copy in another size.
const COPIES: u64 = 4;

/// How pictures become samples of one model input.
#[derive(Debug, Clone)]
pub(super) struct Pictures {
    layout: Layout,
    color: Color,
    height: usize,
    width: usize,
    channels: usize,
    resize: bool,
    mean: Vec<f64>,
    scale: Vec<f64>,
    /// Whether neither mean nor scale was given: the numbers are the bytes.
    bytes: bool,
    shape: Vec<usize>,
    limits: Limits,
}

/// Whether a file's name is a picture's.
pub(super) fn is_picture(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    ["png", "jpg", "jpeg"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

impl Pictures {
    /// How pictures become samples of an input; `first` is one of them, for what the model leaves open.
    ///
    /// # Errors
    /// One line: the input is no picture, or something has to be given.
    pub fn new(
        args: &PrepareArgs,
        input: &InputInfo,
        first: &Path,
        limits: &Limits,
    ) -> Result<Self> {
        let name = &input.name;
        let [batch, a, b, c] = input.dims[..] else {
            bail!(
                "input '{name}' has {} axes, and pictures need 4",
                input.dims.len()
            );
        };
        if batch.unwrap_or(1) != 1 {
            bail!(
                "input '{name}' has a batch of {}, and pictures need 1",
                batch.unwrap_or(1)
            );
        }
        let few = |dim: Option<usize>| matches!(dim, Some(1 | 3));
        let layout = match (args.layout, few(a), few(c)) {
            (Some(layout), ..) => layout,
            (None, true, false) => Layout::Nchw,
            (None, false, true) => Layout::Nhwc,
            _ => bail!(
                "--layout nchw or nhwc: the model does not say which axis of input '{name}' has the channels"
            ),
        };
        let (channels, height, width) = match layout {
            Layout::Nchw => (a, b, c),
            Layout::Nhwc => (c, a, b),
        };
        let channels = channels.unwrap_or(3);
        if channels != 1 && channels != 3 {
            bail!(
                "input '{name}' has {channels} channels in the layout {layout:?}, and pictures have 1 or 3"
            );
        }
        let (height, width) = match args.size {
            Some(size) => {
                let differs =
                    |own: Option<usize>, asked: usize| own.is_some_and(|own| own != asked);
                if differs(height, size.0) || differs(width, size.1) {
                    let own = |dim: Option<usize>| dim.map_or("?".to_owned(), |d| d.to_string());
                    bail!(
                        "--size {}x{}: input '{name}' takes {}x{}",
                        size.0,
                        size.1,
                        own(height),
                        own(width)
                    );
                }
                size
            }
            None => {
                if let (Some(height), Some(width)) = (height, width) {
                    (height, width)
                } else {
                    let picture = decode(first, limits)?;
                    let own = |given: Option<usize>, found: u32| given.unwrap_or(found as usize);
                    (own(height, picture.height()), own(width, picture.width()))
                }
            }
        };
        let values = |name: &str, given: &[f64], default: f64| match given.len() {
            0 => Ok(vec![default; channels]),
            1 => Ok(vec![given[0]; channels]),
            n if n == channels => Ok(given.to_vec()),
            n => Err(anyhow!(
                "--{name} takes 1 or {channels} numbers, and {n} are given"
            )),
        };
        Ok(Self {
            layout,
            color: args.color.unwrap_or(Color::Rgb),
            height,
            width,
            channels,
            resize: args.size.is_some(),
            mean: values("mean", &args.mean, 0.0)?,
            scale: values("scale", &args.scale, 1.0)?,
            bytes: args.mean.is_empty() && args.scale.is_empty(),
            shape: match layout {
                Layout::Nchw => vec![1, channels, height, width],
                Layout::Nhwc => vec![1, height, width, channels],
            },
            limits: limits.clone(),
        })
    }

    /// The shape of a sample.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Reads one picture.
    ///
    /// # Errors
    /// One line that names the file: it is damaged, or of another size.
    pub fn load(&self, path: &Path) -> Result<Array> {
        let mut picture = decode(path, &self.limits)?;
        let shown = path.display();
        let gray = matches!(picture.color(), ColorType::L8 | ColorType::La8);
        if self.channels == 1 && !gray {
            bail!("{shown}: is in colour, and the model takes 1 channel");
        }
        let (width, height) = (self.width as u32, self.height as u32);
        if (picture.width(), picture.height()) != (width, height) {
            if !self.resize {
                bail!(
                    "{shown}: has {}x{} pixels (height x width), and the model takes {height}x{width}; --size \
                     {height}x{width} resizes",
                    picture.height(),
                    picture.width()
                );
            }
            picture = picture.resize_exact(width, height, FilterType::Triangle);
        }
        let pixels = match self.channels {
            1 => picture.into_luma8().into_raw(),
            _ => picture.into_rgb8().into_raw(),
        };
        let plane = self.height * self.width;
        let number = |c: usize, at: usize| {
            let from = match self.color {
                Color::Rgb => c,
                Color::Bgr => self.channels - 1 - c,
            };
            let pixel = f64::from(pixels[at * self.channels + from]);
            if self.bytes {
                pixel
            } else {
                f64::from(((pixel - self.mean[c]) * self.scale[c]) as f32)
            }
        };
        let values = match self.layout {
            Layout::Nchw => (0..self.channels)
                .flat_map(|c| (0..plane).map(move |at| (c, at)))
                .map(|(c, at)| number(c, at))
                .collect(),
            Layout::Nhwc => (0..plane)
                .flat_map(|at| (0..self.channels).map(move |c| (c, at)))
                .map(|(c, at)| number(c, at))
                .collect(),
        };
        Ok(Array {
            shape: self.shape.clone(),
            values,
            kind: if self.bytes {
                ArrayKind::Unsigned(8)
            } else {
                ArrayKind::Float
            },
        })
    }
}

/// A picture of 8 bits a channel.
fn decode(path: &Path, limits: &Limits) -> Result<DynamicImage> {
    let failed =
        |e: &dyn std::fmt::Display| anyhow!("{}: {}", path.display(), one_line(&e.to_string()));
    let file = File::open(path).map_err(|e| failed(&e))?;
    let length = file.metadata().map_err(|e| failed(&e))?.len();
    let most = limits.memory(length);
    let reader = ImageReader::new(BufReader::new(file));
    let mut reader = reader.with_guessed_format().map_err(|e| failed(&e))?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg)) {
        bail!("{}: is no PNG and no JPEG", path.display());
    }
    let mut allowed = image::Limits::no_limits();
    allowed.max_alloc = Some(most);
    reader.limits(allowed);
    let decoder = reader.into_decoder().map_err(|e| failed(&e))?;
    let need = decoder.total_bytes().saturating_mul(COPIES);
    if need > most {
        let (width, height) = decoder.dimensions();
        bail!(
            "{}: {height}x{width} pixels take {need} bytes, and the limit is {most} ({})",
            path.display(),
            Limits::MEMORY
        );
    }
    let picture = DynamicImage::from_decoder(decoder).map_err(|e| failed(&e))?;
    match picture.color() {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => Ok(picture),
        other => bail!(
            "{}: has {} bits a channel, and 8 are read",
            path.display(),
            other.bits_per_pixel() / u16::from(other.channel_count())
        ),
    }
}
