//! A shift in TOML: a number of bits, or `"rest"`.

use std::fmt;

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Shift;

impl Serialize for Shift {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Shift::Rest => serializer.serialize_str("rest"),
            Shift::By(bits) => serializer.serialize_u32(*bits),
        }
    }
}

impl<'de> Deserialize<'de> for Shift {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShiftVisitor;

        impl Visitor<'_> for ShiftVisitor {
            type Value = Shift;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bits or \"rest\"")
            }

            fn visit_i64<E: serde::de::Error>(self, bits: i64) -> Result<Shift, E> {
                u32::try_from(bits)
                    .map(Shift::By)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(bits), &self))
            }

            fn visit_u64<E: serde::de::Error>(self, bits: u64) -> Result<Shift, E> {
                u32::try_from(bits)
                    .map(Shift::By)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(bits), &self))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Shift, E> {
                match text {
                    "rest" => Ok(Shift::Rest),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(ShiftVisitor)
    }
}
