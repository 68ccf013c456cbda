//! What a finding costs: how far the layer that it points at is from the reference.

use serde::Serialize;

use super::Finding;
use crate::outcome::TargetOutcome;

/// The difference of a finding's layer, fed with the reference's inputs. The layer may differ for other reasons, too.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// Elements that were compared.
    pub elements: u64,
    /// Elements that differ.
    pub differing: u64,
    /// Largest difference in LSB.
    pub max_lsb: f64,
}

/// The cost of a finding in what a check found; `None` where the target has no layer of its own there.
pub fn cost(finding: &Finding, checked: &TargetOutcome) -> Option<Cost> {
    let of_tensor = |tensor: &String| checked.layers.iter().find(|layer| layer.tensor == *tensor);
    let stats = finding
        .tensors
        .iter()
        .find_map(of_tensor)?
        .isolated
        .as_ref()?;
    Some(Cost {
        elements: stats.elements,
        differing: stats.differing,
        max_lsb: stats.max_lsb,
    })
}
