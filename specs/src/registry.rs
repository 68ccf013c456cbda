//! The embedded targets, and how a name finds one.

use std::path::Path;

use crate::text::{closest, one_line};
use crate::{Error, Spec};

macro_rules! embedded {
    ($($name:literal),+ $(,)?) => {
        /// Names of the embedded targets, in the order of lists.
        const NAMES: &[&str] = &[$($name),+];
        /// Their texts, in the same order.
        const TEXTS: &[&str] = &[$(include_str!(concat!("../", $name, ".toml"))),+];
    };
}

embedded!(
    "exact",
    "pytorch-fake-quant",
    "nnie",
    "nnie-mqbench",
    "svp-nnn",
    "tensorrt",
    "hexagon-nn",
    "qnn-htp-approx",
    "vitis-dpu",
    "tflite-reference",
    "litert-x86",
    "xnnpack",
    "tflite-int16x8",
    "tflite-int16x8-optimized",
    "onnxruntime",
    "onnxruntime-avx2",
    "onnx-reference",
    "openvino-cpu",
    "openvino-cpu-avx2",
    "fbgemm",
    "fbgemm-channels-last",
    "pytorch-x86",
    "pytorch-x86-channels-last",
    "onednn",
    "onednn-channels-last",
    "onednn-avx2-channels-last",
    "qnnpack",
    "tvm",
    "tvm-tonearest",
    "tvm-hexagon",
    "hawq-v3",
    "distiller",
    "ppl-cuda",
    "ppl-w8a16",
    "stpu",
    "tengine-u8",
    "sophgo-bm1684x",
    "sophgo-cv18xx",
    "ethos-u",
    "cmsis-nn",
    "cmsis-nn-single-rounding",
    "max78000",
    "pulp-dory",
    "pulp-deeploy",
    "esp-dl-p4",
    "esp-dl-s3",
    "nvdla",
    "hls4ml",
    "finn",
);

/// Names of the embedded targets, in a fixed order.
pub fn names() -> &'static [&'static str] {
    NAMES
}

/// The TOML of an embedded target, by name (not alias).
pub fn embedded_toml(name: &str) -> Option<&'static str> {
    NAMES
        .iter()
        .position(|&known| known == name)
        .map(|index| TEXTS[index])
}

impl Spec {
    /// Finds a target: an embedded name, an alias, or a path (one that ends in `.toml` or holds a path
    /// separator).
    ///
    /// # Errors
    /// Where no target has that name, or as [`Spec::read`].
    pub fn resolve(name_or_path: &str) -> Result<Spec, Error> {
        let path = Path::new(name_or_path);
        let is_path = name_or_path.contains(std::path::is_separator)
            || path
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
        if is_path {
            return Spec::read(path);
        }
        if let Some(text) = embedded_toml(name_or_path) {
            return Spec::parse(text, &format!("{name_or_path}.toml"));
        }
        let mut known: Vec<String> = Vec::new();
        for (name, text) in NAMES.iter().zip(TEXTS) {
            let spec = Spec::parse(text, &format!("{name}.toml"))?;
            if spec.aliases.iter().any(|alias| alias == name_or_path) {
                return Ok(spec);
            }
            known.push(spec.name);
            known.extend(spec.aliases);
        }
        let candidates: Vec<&str> = known.iter().map(String::as_str).collect();
        let suggestion = closest(name_or_path, &candidates)
            .map_or_else(String::new, |near| format!(", did you mean '{near}'?"));
        Err(Error::Unknown {
            name: one_line(name_or_path),
            suggestion,
            known: NAMES.join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_target_resolves_by_name_and_alias() {
        for name in names() {
            let spec = Spec::resolve(name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(spec.name, *name);
            for alias in &spec.aliases {
                assert_eq!(
                    Spec::resolve(alias).map(|spec| spec.name).as_deref(),
                    Ok(*name)
                );
            }
        }
    }
}
