//! The attribute names and values of a segment. A sink returns false when it has enough.

use crate::columns::Bitmap;
use crate::model::Value;

use super::attr::key_value;
use super::{Owner, Segment};

impl Segment {
    /// The names of attributes that spans (events, links, resources, scopes) have.
    pub fn tag_names(&self, owner: Owner, sink: &mut dyn FnMut(&str) -> bool) {
        let mut known = Bitmap::none(self.keys.len());
        for (key, owners) in self.attr_keys.iter().zip(&self.attr_owners) {
            if owners & owner as u8 != 0 {
                known.set(*key as usize);
            }
        }
        for key in known.rows() {
            if !sink(std::str::from_utf8(self.keys.get(key as u32)).unwrap_or_default()) {
                return;
            }
        }
    }

    /// The values of an attribute.
    pub fn tag_values(&self, owner: Owner, key: &str, sink: &mut dyn FnMut(Value) -> bool) {
        let Some(key) = self.keys.find(key.as_bytes()) else { return };
        for (code, (of, owners)) in (0u32..).zip(self.attr_keys.iter().zip(&self.attr_owners)) {
            if *of == key
                && owners & owner as u8 != 0
                && let Some(value) = key_value(self.attrs.get(code)).1.to_value()
                && !sink(value)
            {
                return;
            }
        }
    }

    /// The strings that some codes name: of span names, services and the like.
    pub fn texts(&self, codes: impl Iterator<Item = u32>, sink: &mut dyn FnMut(&str) -> bool) {
        let mut known = Bitmap::none(self.strings.len());
        codes.for_each(|code| known.set(code as usize));
        for code in known.rows() {
            if !sink(self.str(code as u32)) {
                return;
            }
        }
    }
}
