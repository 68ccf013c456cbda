//! Typed access to a node's attributes.

use super::fail::{Outcome, malformed, shown};
use super::proto::attribute_proto::AttributeType as Type;
use super::proto::{AttributeProto, TensorProto};

/// The attributes of one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attrs<'a>(pub &'a [AttributeProto]);

impl<'a> Attrs<'a> {
    fn find(self, name: &str) -> Option<&'a AttributeProto> {
        self.0.iter().find(|a| a.name.as_deref() == Some(name))
    }

    /// Whether there is an attribute with this name.
    pub(crate) fn has(self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Finds an attribute and checks its type. Files older than IR version 2 leave the type out: then
    /// the field that is filled decides.
    fn typed(
        self,
        name: &str,
        expected: Type,
        filled: fn(&AttributeProto) -> bool,
    ) -> Outcome<Option<&'a AttributeProto>> {
        let Some(attr) = self.find(name) else {
            return Ok(None);
        };
        let declared = attr.r#type.unwrap_or(0);
        if declared == expected as i32 || (declared == 0 && filled(attr)) {
            return Ok(Some(attr));
        }
        malformed(format!(
            "attribute '{}' is not of type {}",
            shown(name),
            expected.as_str_name()
        ))
    }

    pub(crate) fn int(self, name: &str) -> Outcome<Option<i64>> {
        Ok(self
            .typed(name, Type::Int, |a| a.i.is_some())?
            .map(|a| a.i.unwrap_or(0)))
    }

    pub(crate) fn int_or(self, name: &str, default: i64) -> Outcome<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// An integer that means a truth value.
    pub(crate) fn flag(self, name: &str, default: bool) -> Outcome<bool> {
        Ok(self.int(name)?.map_or(default, |i| i != 0))
    }

    pub(crate) fn float_or(self, name: &str, default: f32) -> Outcome<f32> {
        let attr = self.typed(name, Type::Float, |a| a.f.is_some())?;
        Ok(attr.map_or(default, |a| a.f.unwrap_or(0.0)))
    }

    pub(crate) fn string(self, name: &str) -> Outcome<Option<&'a str>> {
        let Some(attr) = self.typed(name, Type::String, |a| a.s.is_some())? else {
            return Ok(None);
        };
        match std::str::from_utf8(attr.s.as_deref().unwrap_or(&[])) {
            Ok(text) => Ok(Some(text)),
            Err(_) => malformed(format!("attribute '{}' is not UTF-8 text", shown(name))),
        }
    }

    pub(crate) fn ints(self, name: &str) -> Outcome<Option<&'a [i64]>> {
        Ok(self
            .typed(name, Type::Ints, |a| !a.ints.is_empty())?
            .map(|a| a.ints.as_slice()))
    }

    pub(crate) fn floats(self, name: &str) -> Outcome<Option<&'a [f32]>> {
        Ok(self
            .typed(name, Type::Floats, |a| !a.floats.is_empty())?
            .map(|a| a.floats.as_slice()))
    }

    pub(crate) fn tensor(self, name: &str) -> Outcome<Option<&'a TensorProto>> {
        let Some(attr) = self.typed(name, Type::Tensor, |a| a.t.is_some())? else {
            return Ok(None);
        };
        match &attr.t {
            Some(tensor) => Ok(Some(tensor)),
            None => malformed(format!("attribute '{}' holds no tensor", shown(name))),
        }
    }
}
